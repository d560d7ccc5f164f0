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


def interleaved(
    runs: Mapping[str, Run], clock: Clock, settings: Settings, failed: Callable[[str, Exception], object]
) -> dict[str, Times]:
    """Times of every run. A round has each of them once, in an order drawn anew; round i of all belong together.

    Within a round a run is called as often as takes about `settings.round_seconds`, and at least once. A run that
    raises is told to `failed` and takes part no longer.
    """
    first: dict[str, float] = {}
    calls: dict[str, int] = {}
    rounds: dict[str, list[float]] = {}

    def attempt(name: str, count: int) -> float | None:
        try:
            return clock.seconds(runs[name], count)
        except Exception as error:
            failed(name, error)
        rounds.pop(name, None)
        return None

    for name in runs:
        seconds = attempt(name, 1)
        warm = None if seconds is None else attempt(name, settings.warmup)
        if seconds is not None and warm is not None:
            first[name], rounds[name] = seconds, []
            calls[name] = max(1, math.ceil(settings.round_seconds * settings.warmup / warm))
    order = random.Random(0)
    for _ in range(settings.rounds):
        for name in order.sample(list(rounds), len(rounds)):
            seconds = attempt(name, calls[name])
            if seconds is not None:
                rounds[name].append(seconds / calls[name])
    return {name: Times(first[name], tuple(of_run)) for name, of_run in rounds.items()}
