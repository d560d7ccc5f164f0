"""A model as a program that runs without this package: of torch.export, of AOTInductor, of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim

if TYPE_CHECKING:
    from torch.export import ExportedProgram

INPUT, OUTPUT = "images", "logits"
_LARGEST_ONNX = 2_000_000_000  # bytes of weights that its file holds; more lie in a file beside it

Run = Callable[[Tensor], Tensor]


def program_of(model: nn.Module, images: Tensor, free: Collection[int] = ()) -> ExportedProgram:
    """The model's program for images like these, whose size may be another along the `free` axes.

    Along a free axis the example has to have two or more: one is a special case to PyTorch.
    """
    return torch.export.export(model, (images,), dynamic_shapes=_shapes(free))


def save_program(
    model: nn.Module, images: Tensor, path: Path, free: Collection[int] = (), facts: Mapping[str, str] | None = None
) -> None:
    """Writes what `torch.export.load` reads, with the facts as its extra files."""
    torch.export.save(program_of(model, images, free), path, extra_files=dict(facts or {}))


def save_package(
    model: nn.Module, images: Tensor, path: Path, free: Collection[int] = (), facts: Mapping[str, str] | None = None
) -> None:
    """Writes a package compiled for the device of the images, which `aoti_load_package` reads. It holds no facts."""
    options = {"freezing": images.device.type == "cpu"}  # weights ordered once, as those of the compiled form are
    program = program_of(model, images, free)
    torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)


def save_onnx(
    model: nn.Module, images: Tensor, path: Path, free: Collection[int] = (), facts: Mapping[str, str] | None = None
) -> None:
    """Writes an ONNX file with the facts as its metadata. The model's parameters may want no gradients."""
    program = torch.onnx.export(
        model,
        (images,),
        dynamic_shapes=_shapes(free),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(facts or {})
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    program.save(path, external_data=size > _LARGEST_ONNX)


def load_program(path: Path) -> Run:
    return torch.export.load(path).module()


def load_package(path: Path) -> Run:
    """By PyTorch's loader itself where it can be had.

    `aoti_load_package` imports the compiler first, which takes as long as importing torch.
    """
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)  # pyright: ignore[reportAttributeAccessIssue]
        run = loader.boxed_run
    except (AttributeError, TypeError):  # another PyTorch, with another loader
        return torch._inductor.aoti_load_package(str(path))
    return lambda images: run([images])[0]


def load_onnx(path: Path) -> Run:
    """On the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.cpu().numpy()})[0])


def _shapes(free: Collection[int]) -> tuple[dict[int, object]] | None:
    return (dict.fromkeys(free, Dim.AUTO),) if free else None
