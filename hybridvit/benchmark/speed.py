"""Time of inference and of training: all sides in one process, with equal weights, in rounds that take turns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..inspect.costs import cost
from .cases import Case, configured
from .machine import machine
from .memory import Room, peak_memory
from .records import Peaks, Result
from .results import Measured, result, sides
from .roofline import peaks
from .search import best_batch, free_memory
from .sides import Prepared, Way, contest, reason, stored, ways
from .timing import Times, clock_for, interleaved
from .work import WORKS, Work

# A training step costs its forward pass and twice that for the gradients of activations and weights.
_PASSES: dict[Work, int] = {"inference": 1, "training": 3}
# How often weights cross the memory at least: read; and in training read backwards, their gradients written, and four
# tensors of their size read and three written by AdamW.
_MOVES: dict[Work, int] = {"inference": 1, "training": 10}


def inference(case: Case, names: Collection[str] | None = None, weigh: bool = True) -> Result:
    """Time of a batch and share of the matrix peak of each side, or of those of the `names`.

    Without a batch each side has the one that is best for it, and images/s instead of a time. `weigh` measures the peak
    of each side's memory as well, in a process of its own. A side that fails says why.
    """
    return _compete("inference", case, names, weigh)


def training(case: Case, names: Collection[str] | None = None, weigh: bool = True) -> Result:
    """The same of a training step."""
    return _compete("training", case, names, weigh)


def _compete(work: Work, case: Case, names: Collection[str] | None, weigh: bool) -> Result:
    before = machine(case.settings.device)
    contestants = ways(case, names, training=work == "training")
    if case.settings.compile:
        torch.compiler.reset()  # it runs code uncompiled that it has compiled for eight models
    with configured(case.settings):
        found = contest(case, {way.package: None for way in contestants})
        failed = {way.name: found.failed[way.package] for way in contestants if way.package in found.failed}
        prepared = Prepared(found.models, case.settings, shared=work == "inference")
        racing = [way for way in contestants if way.name not in failed]
        batches = _batches(work, case, racing, prepared, failed)
        runs: dict[str, Callable[[], Tensor]] = {}
        for way in racing:
            if way.name in batches:
                # Made at the first call, so that what fails on the way to the device is the side's failure.
                runs[way.name] = _Lazy(work, way, case.of(batches[way.name]), prepared)
        clock = clock_for(case.settings.device)
        times = interleaved(runs, clock, case.settings, lambda name, error: _note(failed, name, error))
        peak = peaks(case.settings)
    measured = {
        way.name: _figures(work, case, way, batches[way.name], times[way.name], peak)
        for way in contestants
        if way.name in times
    }
    if weigh:
        runs.clear()
        free_memory()
        for way in (way for way in contestants if way.name in measured):
            answered = peak_memory(case.of(batches[way.name]), way, work)
            if "failed" in answered:
                failed[way.name] = f"memory: {answered['failed']}"
            elif answered["peak"] is not None:
                measured[way.name] = {**measured[way.name], "peak memory": ("MiB", [answered["peak"]])}
    found_sides = sides(contestants, measured, failed, training=work == "training")
    return result(work, case, before, found_sides, found.difference, peak)


class _Lazy:
    """A run that is made when it is first called."""

    def __init__(self, work: Work, way: Way, case: Case, prepared: Prepared) -> None:
        self._make = lambda: WORKS[work](prepared.model(way), way, case)

    @functools.cached_property
    def _run(self) -> Callable[[], Tensor]:
        return self._make()

    def __call__(self) -> Tensor:
        return self._run()


def _note(failed: dict[str, str], name: str, error: Exception) -> None:
    failed[name] = reason(error)


def _figures(work: Work, case: Case, way: Way, batch: int, times: Times, peak: Peaks) -> Measured:
    of_image = cost(case.spec())
    operations = _PASSES[work] * batch * of_image.flops
    moved = _MOVES[work] * of_image.params * stored(way, case.settings).itemsize
    speed: Measured = {"latency" if work == "inference" else "step": ("s", times.rounds)}
    if case.batch is None:  # times of batches that differ compare nothing
        rates = [batch / seconds for seconds in times.rounds]
        speed = {"throughput": ("images/s", rates), "best batch": ("images", [batch])}
    return {
        **speed,
        "of matrix peak": ("share", [operations / seconds / peak.matrix_gflops / 1e9 for seconds in times.rounds]),
        "of bandwidth": ("share", [moved / seconds / peak.copy_gbs / 1e9 for seconds in times.rounds]),
        "first call": ("s", [times.first]),
    }


def _batches(
    work: Work, case: Case, racing: Sequence[Way], prepared: Prepared, failed: dict[str, str]
) -> dict[str, int]:
    """The batch of each side: that of the case, or the one with which it is fastest.

    A compiled side takes that of the same model eager: it would have to be compiled for each batch that is tried.
    """
    if case.batch is not None:
        return {way.name: case.batch for way in racing}
    found: dict[Way, int] = {}
    batches: dict[str, int] = {}
    for way in racing:
        eager = replace(way, name="", compiled=False)
        try:
            if eager not in found:
                found[eager] = best_batch(
                    functools.partial(_rate, work, eager, case, prepared), room=Room(case.settings.device)
                )
            batches[way.name] = found[eager]
        except Exception as error:  # of another package, which may raise anything
            failed[way.name] = reason(error)
    return batches


def _rate(work: Work, way: Way, case: Case, prepared: Prepared, batch: int) -> float:
    """Images/s of one batch, from one short look."""
    settings, clock = case.settings, clock_for(case.settings.device)
    run = WORKS[work](prepared.model(way), way, case.of(batch))
    warm = clock.seconds(run, settings.warmup) / settings.warmup
    calls = max(1, round(settings.round_seconds / warm))
    return batch * calls / clock.seconds(run, calls)
