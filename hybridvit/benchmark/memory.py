"""Peak memory of one side, measured in a process of its own; and memory and time against the size of images.

On CUDA the peak is that of torch's allocations, weights included. On a CPU it is how far the peak of the process's
resident memory grows from after all imports: weights, activations, and what the libraries and the allocator keep beside
them. Elsewhere it is not measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import random
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from ..meta import without_memory
from ..spec import Grid
from .cases import Case, configured
from .machine import machine
from .peers import fresh
from .processes import answer, in_process
from .records import Result, Unit
from .results import Measured, result, sides
from .sides import OURS, Way, placed, ways
from .timing import clock_for
from .work import WORKS, Work

_STATUS, _MEMORY = Path("/proc/self/status"), Path("/proc/meminfo")


def peak_memory(case: Case, way: Way, work: Work = "inference", calls: int = 0) -> dict[str, Any]:
    """Of building a side and running it twice: {"peak": MiB or None, "seconds": of each of `calls` more}.

    `work` is inference or training. What fails answers {"failed": why}.
    """
    return in_process(__name__, {"case": dataclasses.asdict(case), "way": way.name, "work": work, "calls": calls})


def memory(
    case: Case, names: Collection[str] | None = None, works: Collection[Work] = tuple(WORKS), calls: int = 3
) -> Result:
    """Peak memory and time of inference and of a training step, or of one of these `works`.

    Each is measured in `settings.rounds` processes of its own; the time is that of the fastest of so many `calls`.
    """
    before, contestants = machine(case.settings.device), ways(case, names)
    values: dict[str, dict[str, list[float]]] = {way.name: {} for way in contestants}
    failed: dict[str, str] = {}
    order = random.Random(0)
    for _ in range(case.settings.rounds):
        for way in order.sample(contestants, len(contestants)):
            for work in works:
                if work == "training" and (way.optimized or way.name in failed):
                    continue
                answered = peak_memory(case, way, work, calls)
                if "failed" in answered:
                    failed[way.name] = f"{work}: {answered['failed']}"
                    continue
                figures = values[way.name]
                if answered["peak"] is not None:
                    figures.setdefault(f"{work} peak", []).append(answered["peak"])
                if answered["seconds"]:
                    figures.setdefault(f"{work} time", []).append(min(answered["seconds"]))
    return result("memory", case, before, sides(contestants, _measured(case, values), failed))


def _measured(case: Case, values: dict[str, dict[str, list[float]]]) -> dict[str, Measured]:
    """The figures of each side; one that failed in some of the processes has none of that work."""
    rounds = case.settings.rounds
    units: dict[str, Unit] = {"peak": "MiB", "time": "s"}
    measured: dict[str, Measured] = {}
    for name, figures in values.items():
        whole = {key: v for key, v in figures.items() if len(v) == rounds}
        measured[name] = {key: (units[key.split()[1]], v) for key, v in whole.items()}
    measured[OURS] = {"tokens": ("tokens", [tokens(case)]), **measured[OURS]}
    return measured


def tokens(case: Case) -> int:
    """The longest sequence behind the stem: positions and prefix tokens that the first stage gives."""
    spec = case.spec()
    return spec.stages[0].out_grid(Grid(*case.img_size)).tokens


def _weigh(request: dict[str, Any]) -> dict[str, Any]:
    case, way = request["case"], request["way"]
    with configured(case.settings):
        with without_memory():
            fresh(case, way.package)  # imports what the model is made of, which is not its memory
        if way.compiled:
            importlib.import_module("torch._inductor.compile_fx")
        layer = torch.nn.Conv2d(3, 8, 3)
        layer(torch.zeros(1, 3, 8, 8)).sum().backward()  # what the kernels' library allocates once
        if request["work"] == "training":  # an optimizer imports torch's compiler, unless the package has done it
            torch.optim.AdamW(layer.parameters(), fused=True).step()
        run: list[Callable[[], object]] = []

        def twice() -> None:
            run.append(_run_of(case, way, request["work"]))
            run[0]()
            run[0]()

        peak = peak_of(twice, torch.device(case.settings.device))
        clock = clock_for(case.settings.device)
        return {"peak": peak, "seconds": [clock.seconds(run[0], 1) for _ in range(request["calls"])]}


def _run_of(case: Case, way: Way, work: Work) -> Callable[[], object]:
    return WORKS[work](placed(fresh(case, way.package), way, case.settings), way, case)


def peak_of(work: Callable[[], object], device: torch.device) -> float | None:
    """The peak of memory while `work` runs, in MiB; on a CPU beyond what was resident before; None if nothing tells."""
    if device.type == "cpu":
        _forget_peak()
        before = _peak_rss_mib()
        work()
        after = _peak_rss_mib()
        return None if before is None or after is None else round(after - before, 1)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    work()
    return None


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # a kernel without this keeps the peak of the imports, slightly too high
        Path("/proc/self/clear_refs").write_text("5")


class Room:
    """Whether a CPU has memory for twice what this process has taken at most since this was made.

    Other devices refuse to give more than they have; Linux gives it, and kills the process that uses it.
    """

    def __init__(self, device: str) -> None:
        self._known = torch.device(device).type == "cpu" and _STATUS.exists()
        _forget_peak()
        self._start = _peak_rss_mib()

    def __call__(self) -> bool:
        if not self._known:
            return True
        peak, available = _peak_rss_mib(), _mib(_MEMORY, "MemAvailable")
        if peak is None or available is None or self._start is None:
            return True
        return 2 * (peak - self._start) < available


def _peak_rss_mib() -> float | None:
    # Not getrusage on Linux: a new process starts with the peak of the one that started it.
    if _STATUS.exists():
        return _mib(_STATUS, "VmHWM")
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return None


def _mib(path: Path, name: str) -> float | None:
    found = re.search(rf"{name}:\s+(\d+) kB", path.read_text())
    return int(found[1]) / 1024 if found else None


if __name__ == "__main__":
    answer(_weigh)
