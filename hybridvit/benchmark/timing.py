"""Rounds that take turns, so that whatever disturbs the machine disturbs all sides alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from .records import Settings

Run = Callable[[], object]


class Clock(Protocol):
    def seconds(self, run: Run, calls: int) -> float:
        """Time until all work of `calls` calls, one after another, is done."""
        ...


class WallClock:
    """The system's clock. `synchronize` waits for the device; a CPU's calls return when they are done."""

    def __init__(self, synchronize: Callable[[], object] | None = None) -> None:
        self.synchronize = synchronize or (lambda: None)

    def seconds(self, run: Run, calls: int) -> float:
        self.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        self.synchronize()
        return time.perf_counter() - start


class CudaClock:
    """The GPU's own clock, between events in its stream."""

    def seconds(self, run: Run, calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000


def clock_for(device: str) -> Clock:
    """The clock that sees the work of a device."""
    if device.startswith("cuda"):
        return CudaClock()
    return WallClock(torch.mps.synchronize if device == "mps" else None)


@dataclass(frozen=True)
class Times:
    """Seconds of the first call, and of one call on average in each round."""

    first: float
    rounds: tuple[float, ...]


def interleaved(runs: Mapping[str, Run], clock: Clock, settings: Settings) -> dict[str, Times]:
    """Times of every run. A round has each of them once, in an order drawn anew; round i of all belong together.

    Within a round a run is called as often as takes about `settings.round_seconds`, and at least once.
    """
    first = {name: clock.seconds(run, 1) for name, run in runs.items()}
    calls: dict[str, int] = {}
    for name, run in runs.items():
        warm = clock.seconds(run, settings.warmup) / settings.warmup
        calls[name] = max(1, math.ceil(settings.round_seconds / warm))
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for _ in range(settings.rounds):
        for name in order.sample(list(runs), len(runs)):
            rounds[name].append(clock.seconds(runs[name], calls[name]) / calls[name])
    return {name: Times(first[name], tuple(rounds[name])) for name in runs}
