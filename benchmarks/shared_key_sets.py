"""Time, memory and cache misses of attention whose queries share key sets, and of windows that slide with each query.

    python -m benchmarks.shared_key_sets --threads 1 --out benchmarks/results/shared-keys.jsonl
    python -m benchmarks.shared_key_sets --device cuda --out shared-keys-cuda.jsonl

Every way gets the same tokens and multiplies each query with equally many keys (`benchmarks/key_sets.py`). Its outputs
are compared with those of a slow reference before it is timed, in turns with the others, without gradients. A result is
a map and a window; its first side is attention in windows.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import statistics
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.key_sets import WAYS, Shape, reference
from hybridvit.benchmark import Result, Settings, append_result
from hybridvit.benchmark.cases import configured
from hybridvit.benchmark.machine import allocator, commit, machine, versions
from hybridvit.benchmark.memory import peak_of
from hybridvit.benchmark.processes import answer, in_process
from hybridvit.benchmark.records import Figure, Side, Unit
from hybridvit.benchmark.results import command
from hybridvit.benchmark.sides import reason
from hybridvit.benchmark.tables import circumstances
from hybridvit.benchmark.timing import clock_for, interleaved

MIB = 2**20
# Stages 1 and 2 of Swin-T, and a map of nearly the same size that other windows divide.
SHAPES = (
    *(Shape(side=56, heads=3, width=32, window=window) for window in (7, 8, 14)),
    *(Shape(side=48, heads=3, width=32, window=window) for window in (12, 16)),
    *(Shape(side=28, heads=6, width=32, window=window) for window in (7, 14)),
)
# Blocks of this size and more go back to the system when they are freed, so that a peak is that of one call.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(64 * 1024), "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0"}
LARGEST_DIFFERENCE = 1e-4


def study(shape: Shape, settings: Settings, ways: Sequence[str] = tuple(WAYS)) -> Result:
    """Measures one map and window. A way that is not exact, or does not run here, says so and has no figures."""
    before, runs, failed = machine(settings.device), dict[str, Callable[[], Tensor]](), dict[str, str]()
    difference = 0.0
    with configured(settings), torch.no_grad():
        for name in ways:
            try:
                run = made(shape, name, settings.device)
                differs = (run().cpu() - reference(shape, WAYS[name].sets)).abs().max().item()
            except Exception as error:  # of a compiler, which may raise anything
                failed[name] = reason(error)
                continue
            if differs > LARGEST_DIFFERENCE:
                failed[name] = f"refused: its outputs differ by {differs:.1e}"
            else:
                runs[name], difference = run, max(difference, differs)
        misses = {name: cache_misses(run) for name, run in runs.items()} if settings.device == "cpu" else {}
        times = interleaved(
            runs, clock_for(settings.device), settings, lambda name, error: failed.update({name: reason(error)})
        )
        sides: list[Side] = []
        for name in ways:
            figures: dict[str, Figure] = {}
            if name in times:
                ours = sides[0].figures if sides else {}
                values = {"latency": ("s", times[name].rounds), **_facts(shape, name, settings, misses.get(name))}
                figures = {key: Figure.of(unit, found, ours.get(key)) for key, (unit, found) in values.items()}
            sides.append(Side(name=name, settings=_told(shape), figures=figures, failed=failed.get(name)))
    return Result(
        suite="shared_keys",
        model=None,
        batch=1,
        img_size=None,
        params=None,
        flops=shape.flops,
        settings=settings,
        sides=tuple(sides),
        difference=difference,
        peaks=None,
        machine=before,
        versions=versions(),
        allocator=allocator(),
        commit=commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command(),
    )


def made(shape: Shape, name: str, device: str) -> Callable[[], Tensor]:
    """A way with its tokens."""
    attend, tokens = WAYS[name].make(shape, device), shape.tokens(device)
    return lambda: attend(*tokens)


def _told(shape: Shape) -> dict[str, str]:
    heads, window = f"{shape.heads} of {shape.width}", f"{shape.window}x{shape.window}"
    return {"map": f"{shape.side}x{shape.side}", "heads": heads, "window": window}


def _facts(shape: Shape, name: str, settings: Settings, misses: int | None) -> dict[str, tuple[Unit, list[float]]]:
    facts: dict[str, tuple[Unit, list[float]]] = {"keys computed": ("tokens", [WAYS[name].computed(shape)])}
    if "FlexAttention" not in name:  # inside its kernel nothing is seen
        facts["moved"] = ("MiB", [moved(made(shape, name, "cpu")) / MIB])
    request = {"shape": dataclasses.asdict(shape), "name": name, "settings": dataclasses.asdict(settings)}
    peak = in_process(__spec__.name, request, GIVES_BACK).get("peak")
    if peak is not None:
        facts["peak memory"] = ("MiB", [peak])
    if misses is not None:
        facts["cache misses"] = ("misses", [misses])
    return facts


class _Moved(TorchDispatchMode):
    """Bytes that operations are given and give, views left out."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, given)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return given


def moved(run: Callable[[], object]) -> int:
    """Computed: bytes that the operations of a run read and write, if none of them is left in a cache by another.

    What a kernel of attention reads again and again counts once.
    """
    with _Moved() as counter:
        run()
    return counter.bytes


def _peak(request: dict[str, Any]) -> dict[str, Any]:
    shape, settings = Shape(**request["shape"]), Settings(**request["settings"])
    with configured(settings), torch.no_grad():
        run = made(shape, request["name"], settings.device)
        run()  # compiles, and allocates once what the kernels' libraries keep
        return {"peak": peak_of(run, torch.device(settings.device))}


HARDWARE, SOFTWARE = 0, 1
_CACHE_MISSES, _PERF_EVENT_OPEN = 3, {"x86_64": 298, "aarch64": 241}


def cache_misses(run: Callable[[], object], kind: int = HARDWARE, event: int = _CACHE_MISSES) -> int | None:
    """Misses of the last-level cache in this thread, as the kernel counts; None where the machine does not tell.

    `kind` and `event` name another counter of `perf_event_open`.
    """
    number = _PERF_EVENT_OPEN.get(os.uname().machine)
    if os.uname().sysname != "Linux" or number is None:
        return None
    user_only = 1 << 5 | 1 << 6  # neither the kernel nor a hypervisor
    attributes = struct.pack("<IIQQQQQ", kind, 64, event, 0, 0, 0, user_only).ljust(64, b"\0")
    counter = ctypes.CDLL(None, use_errno=True).syscall(number, attributes, 0, -1, -1, 0)
    if counter < 0:
        return None
    try:
        (before,) = struct.unpack("<Q", os.read(counter, 8))
        run()
        (after,) = struct.unpack("<Q", os.read(counter, 8))
    finally:
        os.close(counter)
    return after - before


def table(results: Sequence[Result]) -> str:
    """Markdown: how many times as long as windows each way takes over all results, and a table with a row a way."""
    header = ("map", "heads", "window", "way", "keys computed a query", "time, ms (p10-p90)", "times that of windows")
    header += ("moved, MiB", "peak memory, MiB", "cache misses")
    rows = [(*side.settings.values(), side.name, *_cells(side)) for result in results for side in result.sides]
    rule = ("---", *("---:" if i > 3 else "---" for i in range(1, len(header))))
    lines = [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
    return "\n\n".join((circumstances(results[0]), _summary(results), "\n".join(lines))) + "\n"


def _summary(results: Sequence[Result]) -> str:
    ratios: dict[str, list[float]] = {}
    for side in (side for result in results for side in result.sides):
        latency = side.figures.get("latency")
        if latency and latency.ratio:
            ratios.setdefault(side.name, []).append(latency.ratio.median)
    header = "| way | times that of windows, geometric mean | least | most |\n| --- | ---: | ---: | ---: |"
    rows = (
        f"| {name} | {statistics.geometric_mean(found):.2f} | {min(found):.2f} | {max(found):.2f} |"
        for name, found in ratios.items()
    )
    return "\n".join((header, *rows))


def _cells(side: Side) -> tuple[str, ...]:
    if side.failed:
        return (side.failed, *[""] * 5)
    latency = side.figures["latency"]
    times = (1000 * seconds for seconds in (latency.spread.median, latency.spread.p10, latency.spread.p90))
    others = (side.figures.get(name) for name in ("moved", "peak memory", "cache misses"))
    return (
        f"{side.figures['keys computed'].spread.median:.0f}",
        "{:.2f} ({:.2f}-{:.2f})".format(*times),
        f"{latency.ratio.median:.2f}" if latency.ratio else "",
        *(f"{figure.spread.median:.1f}" if figure else "" for figure in others),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared_key_sets", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for shape in SHAPES:
        result = study(shape, Settings(device=given.device, threads=given.threads, rounds=given.rounds))
        append_result(given.out, result)
        print(table([result]), flush=True)


if __name__ == "__main__":
    import sys

    answer(_peak) if sys.argv[1:2] and sys.argv[1].startswith("{") else main()
