"""What exported forms of our model cost and give: time to make one, time to its first result, latency.

The first result is measured in a process of its own, after all imports: from the file on disk to an output. For
`torch.compile`, whose caches are empty there, that is its warm-up. Other forms find the caches as their making left
them: inductor probes a processor once by compiling for it, also to load a package.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..meta import without_memory
from ..optimization.programs import load_package, load_program, save_onnx, save_package, save_program
from .cases import Case, configured
from .machine import machine
from .peers import fresh, perturb
from .processes import answer, in_process
from .records import BenchmarkError, Result, Unit
from .results import result, sides
from .sides import OURS, Way, placed, reason
from .timing import clock_for, interleaved
from .work import classify, images_for

LARGEST_DIFFERENCE = 1e-3

Run = Callable[[], Tensor]
_PLAIN, _COMPILED = Way(name=OURS, package=OURS), Way(name="hybridvit compiled", package=OURS, compiled=True)


class Form(NamedTuple):
    """A form of the model: `make` writes it to a path, `load` makes a run of what is there. `needs` are packages."""

    make: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Case, Tensor, Path], Run]
    needs: tuple[str, ...] = ()


def export(case: Case, names: Collection[str] | None = None) -> Result:
    """Every form of our model, or those of the `names`, beside the model as it is built.

    Raises BenchmarkError under autocast, which no exported program has.
    """
    if case.settings.precision.startswith("amp-"):
        raise BenchmarkError(
            f"exported programs have no autocast, which {case.settings.precision} is: use fp32 or bf16"
        )
    forms = {name: form for name, form in FORMS.items() if names is None or name in (OURS, *names)}
    before, difference = machine(case.settings.device), 0.0
    failed: dict[str, str] = {}
    figures: dict[str, dict[str, tuple[Unit, list[float]]]] = {}
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as directory, configured(case.settings), torch.inference_mode():
        images = images_for(_PLAIN, case)
        for number, (name, form) in enumerate(forms.items()):
            path = Path(directory) / f"form{number}.pt2"
            try:
                made = _make(form, case, images, path)
                first = _first_result(case, name, path)
                run = form.load(case, images, path)
                difference = max(difference, _difference(run(), runs.get(OURS, run)()))
            except Exception as error:  # of an exporter, which may raise anything
                failed[name] = reason(error)
                continue
            runs[name] = run
            figures[name] = {"first result": ("s", [first])}
            if form.make is not _save_weights:
                figures[name]["export"] = ("s", [made])
        clock = clock_for(case.settings.device)
        times = interleaved(runs, clock, case.settings, lambda name, e: failed.update({name: reason(e)}))
    measured = {name: {"latency": ("s", list(of.rounds)), **figures[name]} for name, of in times.items()}
    ways = [Way(name=name, package=OURS) for name in forms]
    return result("export", case, before, sides(ways, measured, failed), difference)


def _model(case: Case) -> nn.Module:
    model = fresh(case, OURS)
    perturb(model)
    return placed(model, _PLAIN, case.settings).requires_grad_(False)


def _make(form: Form, case: Case, images: Tensor, path: Path) -> float:
    """Seconds of writing a form, the building of the model apart."""
    for package in form.needs:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(name=package)
    with torch.inference_mode(False), torch.random.fork_rng():
        torch.manual_seed(0)  # each form has the same weights
        model, images = _model(case), images.clone()
        start = time.perf_counter()
        with torch.no_grad():
            form.make(model, images, path)
        return time.perf_counter() - start


def _difference(actual: Tensor, expected: Tensor) -> float:
    """Over the largest output. Raises BenchmarkError where it tells of more than rounding."""
    found = ((actual.float() - expected.float()).abs().max() / expected.float().abs().max()).item()
    if expected.dtype == torch.float32 and not found <= LARGEST_DIFFERENCE:
        raise BenchmarkError(f"its outputs differ from the model's by {found:.1e} of the largest")
    return found


def _first_result(case: Case, name: str, path: Path) -> float:
    with tempfile.TemporaryDirectory() as caches:
        request = {"case": dataclasses.asdict(case), "name": name, "path": str(path)}
        # As where nothing was compiled yet. Inductor then tries out the processor, for packages only to compare names.
        fresh_machine = {"TORCHINDUCTOR_CACHE_DIR": caches, "TORCHINDUCTOR_VEC_ISA_OK": "1"}
        answered = in_process(__name__, request, fresh_machine)
    if "failed" in answered:
        raise BenchmarkError(f"first result: {answered['failed']}")
    return answered["seconds"]


def _time_first(request: Mapping[str, Any]) -> dict[str, Any]:
    case, form, path = request["case"], FORMS[request["name"]], Path(request["path"])
    case.spec()
    for package in (*form.needs, "torch._dynamo", "torch._inductor.compile_fx", "torch._inductor.package"):
        importlib.import_module(package)
    with configured(case.settings), torch.inference_mode():
        images = images_for(_PLAIN, case)
        clock = clock_for(case.settings.device)
        return {"seconds": clock.seconds(lambda: form.load(case, images, path)(), 1)}


def _save_weights(model: nn.Module, images: Tensor, path: Path) -> None:
    torch.save(model.state_dict(), path)


def _load_weights(way: Way) -> Callable[[Case, Tensor, Path], Run]:
    def load(case: Case, images: Tensor, path: Path) -> Run:
        with without_memory():
            model = case.spec().build().eval()
        model.load_state_dict(torch.load(path, weights_only=True, mmap=True), assign=True)
        return classify(model.requires_grad_(False).to(case.settings.device), way, case)

    return load


def _load_program(case: Case, images: Tensor, path: Path) -> Run:
    program = load_program(path)
    return lambda: program(images)


def _load_package(case: Case, images: Tensor, path: Path) -> Run:
    package = load_package(path)
    return lambda: package(images)


def _load_onnx(case: Case, images: Tensor, path: Path) -> Run:
    import onnxruntime

    device = torch.device(case.settings.device)
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device.type)
    if provider is None or provider not in onnxruntime.get_available_providers():
        raise BenchmarkError(f"this ONNX Runtime does not run on {device.type}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.settings.threads
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    binding, output = session.io_binding(), torch.empty(len(images), case.spec().num_classes, device=device)
    for bind, value, tensor in (
        (binding.bind_input, session.get_inputs()[0], images),
        (binding.bind_output, session.get_outputs()[0], output),
    ):
        bind(value.name, device.type, device.index or 0, "float32", tuple(tensor.shape), tensor.data_ptr())

    def run() -> Tensor:
        session.run_with_iobinding(binding)
        return output

    return run


FORMS: Mapping[str, Form] = {
    OURS: Form(_save_weights, _load_weights(_PLAIN)),
    _COMPILED.name: Form(_save_weights, _load_weights(_COMPILED)),
    "hybridvit exported": Form(save_program, _load_program),
    "hybridvit AOTInductor": Form(save_package, _load_package),
    "hybridvit ONNX Runtime": Form(save_onnx, _load_onnx, ("onnx", "onnxscript", "onnxruntime")),
}


if __name__ == "__main__":
    answer(_time_first)
