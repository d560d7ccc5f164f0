"""`export`: a model as one file that runs without this package, with all that is needed to use it written beside it."""

from __future__ import annotations

import copy
import importlib
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from .. import __version__
from ..adapt import with_img_size
from ..optimization.programs import (
    INPUT,
    OUTPUT,
    Run,
    load_onnx,
    load_package,
    load_program,
    save_onnx,
    save_package,
    save_program,
)
from ..optimization.report import off_by
from ..weights.exclusive import settle
from ..zoo_path import zoo_path
from .classifiers import load_classifier
from .data import image_files
from .device import torch_device
from .errors import ExportError
from .images import load_image
from .transforms import preprocess_of, transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..encoder import Encoder

FACTS_FILE = "preprocess.json"
LARGEST_DIFFERENCE = 1e-3  # of the spread of outputs; of less precise weights:
LARGEST_DIFFERENCE_IN_HALF = 5e-2

Format = Literal["onnx", "torch", "aoti"]


class _Form(NamedTuple):
    """How a format is written and read; `needs` are the packages for it, `file` is its usual name."""

    file: str
    save: Callable[..., None]
    load: Callable[[Path], Run]
    needs: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")


FORMS: dict[Format, _Form] = {
    "onnx": _Form("model.onnx", save_onnx, load_onnx, ("onnx", "onnxscript", "onnxruntime"), ("cpu",)),
    "torch": _Form("model.pt2", save_program, load_program),
    "aoti": _Form("model.pt2", save_package, load_package),
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the program.
        facts: JSON with preprocessing, labels and what else a user of the program has to know.
        difference: between its outputs and the model's, as a share of how far outputs of different images lie apart:
            the largest found, on random images and on photographs or drawings.
    """

    path: Path
    facts: Path
    difference: float


def export(
    model: str | Path | Encoder,
    out: str | Path,
    *,
    format: Format = "onnx",
    img_size: int | tuple[int, int] | None = None,
    dynamic: bool = False,
    device: str | None = None,
) -> Exported:
    """Write a model as a program for any number of images at a time, once it has been seen to compute the same.

    Args:
        model: a model, a saved directory, or a name with pretrained weights.
        out: a directory, in which the program is called model.onnx or model.pt2 and the facts preprocess.json; or a
            file that ends so, NAME.onnx or NAME.pt2, whose facts are then called NAME.preprocess.json.
        format: "onnx"; "torch" for what `torch.export.load` reads; or "aoti" for a package that AOTInductor compiles
            for the processor or GPU at hand, and `torch._inductor.aoti_load_package` reads.
        img_size: side, or (height, width), of the images that it takes; by default that of the preprocessing.
        dynamic: take images of any height and width instead.
        device: where a program of torch is to run, and where a package is compiled for; by default the best there is.
            ONNX is written on the CPU, and runs anywhere.

    Raises:
        ExportError: if the exporter fails or the outputs differ; nothing is written then.
        ValueError: for another format, ending or device, and for a model without a classifier.
        ModuleNotFoundError: for "onnx" without the packages of the extra `export`.
    """
    if format not in FORMS:
        raise ValueError(f"format is one of {', '.join(FORMS)}, not {format!r}")
    form = FORMS[format]
    path, facts_path = _places(Path(out).expanduser(), form)
    for package in form.needs:
        importlib.import_module(package)
    original = load_classifier(model)
    target = torch_device(device or (None if "cuda" in form.devices else "cpu"))
    if target.type not in form.devices:
        raise ValueError(f"{format} is written on {' or '.join(form.devices)}, not on {target.type}")
    ready = _ready(original, img_size).to(target)
    facts = _facts(ready, format, dynamic)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as staging:
        staged = Path(staging) / path.name
        difference = _written(form, ready, staged, dynamic, facts, format)
        text = json.dumps(facts | {"largest_difference": difference}, indent=1) + "\n"
        (Path(staging) / facts_path.name).write_text(text, encoding="utf-8")
        for each in sorted(Path(staging).iterdir(), key=lambda each: each.name == facts_path.name):
            settle(each)
            os.replace(each, path.parent / each.name)
    return Exported(path, facts_path, difference)


def _places(out: Path, form: _Form) -> tuple[Path, Path]:
    """Where the program and its facts go."""
    ending = Path(form.file).suffix
    if out.suffix == ending and not out.is_dir():
        return out, out.with_suffix(f".{FACTS_FILE}")
    if out.is_file() or out.suffix in {Path(each.file).suffix for each in FORMS.values()}:
        raise ValueError(f"{out} does not end in {ending}: name such a file, or a directory")
    return out / form.file, out / FACTS_FILE


def _ready(model: Encoder, img_size: int | tuple[int, int] | None) -> Encoder:
    """A copy for inference, with tables for the images that it will get."""
    size = img_size or preprocess_of(model).input_size
    size = (size, size) if isinstance(size, int) else (size[0], size[1])
    ready = copy.deepcopy(model) if model.spec.img_size == size else with_img_size(model, size)
    return ready.eval().requires_grad_(False)


def _written(form: _Form, model: Encoder, path: Path, dynamic: bool, facts: dict[str, Any], format: Format) -> float:
    """Writes the program and compares what is read back with the model. Returns the largest difference."""
    parameter = next(model.parameters())
    size = preprocess_of(model).input_size
    free = (0, 2, 3) if dynamic else (0,)
    example = torch.randn(2, model.spec.in_chans, *size, generator=torch.Generator().manual_seed(0)).to(parameter)
    told = {name: json.dumps(value) for name, value in facts.items()}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # exporters warn of their own insides
            form.save(model, example, path, free, told)
            return _compared(model, form.load(path), dynamic)
    except ExportError:
        raise
    except Exception as error:  # of an exporter, a compiler or a runtime, which may raise anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        others = " or ".join(name for name in FORMS if name != format)
        raise ExportError(f"this model cannot be exported to {format}: {reason}. Try --format {others}") from error


@torch.inference_mode()
def _compared(model: Encoder, run: Run, dynamic: bool) -> float:
    """The largest difference between outputs of a program and of the model. Raises ExportError if it is too large."""
    parameter = next(model.parameters())
    limit = LARGEST_DIFFERENCE if parameter.dtype == torch.float32 else LARGEST_DIFFERENCE_IN_HALF
    difference = 0.0
    for what, images in _examples(model, dynamic):
        images = images.to(parameter)
        found = off_by(model(images), run(images.clone()))
        if not found <= limit:
            raise ExportError(
                f"the exported program is not the model: on {what} its outputs are off by {found:.1e} of their "
                f"spread, and {limit:g} is allowed. Nothing was written; try another format"
            )
        difference = max(difference, found)
    return difference


def _examples(model: Encoder, dynamic: bool) -> Iterator[tuple[str, Tensor]]:
    """Images to compare on, in batches of several sizes: noise, and what the package has to look at."""
    generator = torch.Generator().manual_seed(1)
    preprocess = preprocess_of(model)
    height, width = preprocess.input_size
    yield "noise", torch.randn(3, model.spec.in_chans, height, width, generator=generator)
    if dynamic:
        sides = height + height // 4 + 1, width + width // 2 + 3
        yield (
            f"noise of {sides[0]} x {sides[1]} pixels",
            torch.randn(5, model.spec.in_chans, *sides, generator=generator),
        )
    if preprocess.channels in (1, 3):
        prepare = transforms(model)
        files = image_files(zoo_path() / "samples" / "emoji" / "val")
        yield "drawings", torch.stack([prepare(load_image(file)) for file in files[:: len(files) // 6]])


def _facts(model: Encoder, format: Format, dynamic: bool) -> dict[str, Any]:
    """What a user of the program has to know, without this package to ask."""
    preprocess = preprocess_of(model)
    height, width = preprocess.input_size
    origin = model.origin or {}
    sides: list[int | str] = ["height", "width"] if dynamic else [height, width]
    return {
        "format": format,
        "input": {
            "name": INPUT,
            "shape": ["batch", model.spec.in_chans, *sides],
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "colours": {1: "grey", 3: "RGB"}.get(model.spec.in_chans, "bands"),
        },
        "preprocess": preprocess.to_dict() | {"resize_to": list(preprocess.resize_to)},
        "output": {
            "name": OUTPUT,
            "shape": ["batch", model.spec.num_classes],
            "probabilities": "sigmoid" if model.multi_label else "softmax",
        },
        "labels": list(model.labels) if model.labels else None,
        "model": {name: origin[name] for name in ("architecture", "finetuned_from", "licence") if origin.get(name)},
        "made_with": {"hybridvit": __version__, "torch": torch.__version__},
    }
