"""The benchmark: build the sides, prove them equal, time them in turns, weigh them, write down the circumstances."""

from __future__ import annotations

import contextlib
import copy
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import torch

from ..inspect.costs import flops, params
from ..registry import model_spec
from ..transfer.device import torch_device
from . import machine
from .memory import peak_memory_mib
from .records import BenchmarkError, Figure, Precision, Result, Settings, Side
from .sides import OURS, PEER, PEER_CHANNELS_LAST, Case, build, equal_pair, has_peer, runner
from .timing import clock_for, interleaved


def benchmark(
    models: Sequence[str],
    batches: Sequence[int] = (1, 8),
    settings: Settings | None = None,
    *,
    img_size: tuple[int, int] | None = None,
    peers: bool = True,
    memory: bool = True,
) -> Iterator[Result]:
    """Measures each model at each batch size and yields a result as soon as it is there.

    `img_size` is (height, width) in pixels, by default the one that each model is built for. With `peers`, timm's model
    of the same name runs beside ours with the same weights. `memory` measures each side in a process of its own.

    Raises UnknownNameError for a model, BenchmarkError for settings that cannot be run here and when memory runs out.
    """
    settings = settings or Settings(threads=torch.get_num_threads())
    _check(batches, settings)
    sizes = {model: img_size or model_spec(model).img_size for model in models}
    compared = {model: peers and has_peer(model) for model in models}
    for model, size in sizes.items():
        for batch in batches:
            case = Case(model=model, batch=batch, img_size=size, settings=settings)
            with _memory_errors(case), _configured(settings):
                result = _measure(case, compared[model], memory)
            yield result


def _measure(case: Case, compare: bool, memory: bool) -> Result:
    circumstances = machine.machine(case.settings.device)
    sides, difference = _timed(case, compare)
    if memory:
        sides = _weighed(case, sides)
    return Result(
        suite="inference",
        model=case.model,
        batch=case.batch,
        img_size=case.img_size,
        params=params(case.spec()),
        flops=flops(case.spec()),
        settings=case.settings,
        sides=tuple(sides),
        difference=difference,
        peaks=None,
        machine=circumstances,
        versions=machine.versions(),
        allocator=machine.allocator(),
        commit=machine.commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )


def _timed(case: Case, compare: bool) -> tuple[list[Side], float | None]:
    """The sides with their times, ours first, and the difference of the outputs if there is a peer."""
    if compare:
        ours, peer, difference = equal_pair(case)
        models = {OURS: ours, PEER: peer, PEER_CHANNELS_LAST: copy.deepcopy(peer)}
    else:
        models, difference = {OURS: build(case, OURS)}, None
    runs = {side: runner(model, case, side) for side, model in models.items()}
    times = interleaved(runs, clock_for(case.settings.device), case.settings)
    sides: list[Side] = []
    for name, of_side in times.items():
        ours = sides[0].figures if sides else {}
        figures = {
            "latency": Figure.of("s", of_side.rounds, ours.get("latency")),
            "throughput": Figure.of("images/s", [case.batch / s for s in of_side.rounds], ours.get("throughput")),
            "first call": Figure.of("s", [of_side.first], ours.get("first call")),
        }
        sides.append(Side(name=name, settings={}, figures=figures))
    return sides, difference


def _weighed(case: Case, sides: Sequence[Side]) -> list[Side]:
    """The sides with their peak memory."""
    weighed: list[Side] = []
    for side in sides:
        peak, ours = peak_memory_mib(case, side.name), weighed[0].figures.get("peak memory") if weighed else None
        figures = {} if peak is None else {"peak memory": Figure.of("MiB", [peak], ours)}
        weighed.append(replace(side, figures=side.figures | figures))
    return weighed


def _check(batches: Sequence[int], settings: Settings) -> None:
    counts = {
        "batch": min(batches, default=0),
        "threads": settings.threads,
        "rounds": settings.rounds,
        "warmup": settings.warmup,
    }
    for name, value in counts.items():
        if value < 1:
            raise BenchmarkError(f"{name} must be at least 1, got {value}")
    if settings.precision not in get_args(Precision):
        raise BenchmarkError(f"precision must be one of {', '.join(get_args(Precision))}, got {settings.precision!r}")
    if not (math.isfinite(settings.round_seconds) and settings.round_seconds > 0):
        raise BenchmarkError(f"round_seconds must be above 0, got {settings.round_seconds}")
    try:
        device = torch_device(settings.device)
    except ValueError as error:
        raise BenchmarkError(str(error)) from None
    if settings.precision == "tf32" and device.type != "cuda":
        raise BenchmarkError(f"tf32 is a precision of CUDA devices, not of {settings.device!r}: use fp32 or bf16")


@contextlib.contextmanager
def _configured(settings: Settings) -> Iterator[None]:
    """torch's global switches as the settings say, and afterwards as they were."""
    threads = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


@contextlib.contextmanager
def _memory_errors(case: Case) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On a CPU torch raises a plain RuntimeError that names its allocator.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            height, width = case.img_size
            raise BenchmarkError(
                f"{case.model} with batch {case.batch} at {height}x{width} does not fit in the memory of "
                f"{case.settings.device}: use a smaller --batch or --img-size"
            ) from error
        raise
