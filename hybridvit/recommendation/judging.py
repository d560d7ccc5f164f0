"""Candidates one after another: what they are, how fast, and, of those within the limits, what their features reach."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..benchmark.timing import Clock
from ..transfer.progress import Progress
from ..transfer.seeds import seed_of
from ..weights.load import create_model
from .candidates import is_elsewhere
from .failures import FAILURES, why
from .features import features_of
from .latency import busy_note, latencies
from .prospects import Prospect, prospect
from .proxy import proxy
from .ranking import Row
from .result import milliseconds
from .sample import Sample


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every candidate has to do.

    Attributes:
        limit: seconds that an image may take; None for any.
        max_params: millions of parameters; None for any.
        side: of the images in pixels; None for each model's own.
        features: folder that keeps features, if there is one.
        offline: whether weights come from this machine alone.
        unreachable: whether that is because the Hub was found not to answer.
    """

    sample: Sample
    device: torch.device
    clock: Clock
    limit: float | None
    max_params: float | None
    side: int | None
    features: Path | None
    workers: int | None
    progress: Progress
    offline: bool
    unreachable: bool


def rows_of(names: Sequence[str], task: Task) -> list[Row]:
    """A row for each name; what goes wrong with one is in its row, and the others go on."""
    ahead, rows = _prospects(names, task)
    task.progress.note(f"timing {len(ahead)} models, one image at a time, in turns")
    if note := busy_note(task.device):
        task.progress.note(note)
    timed = latencies({name: each.entrant for name, each in ahead.items()}, task.device, task.clock, task.limit)
    for name, reason in timed.failed.items():
        rows.append(_row(ahead[name], status="failed", reason=reason))
    limit = math.inf if task.limit is None else task.limit
    for name in [name for name, seconds in timed.seconds.items() if seconds > limit]:
        seconds = timed.seconds.pop(name)
        rows.append(_row(ahead[name], status="too slow", reason=f"too slow: {milliseconds(seconds)}", latency=seconds))
    minutes = len(task.sample.images) * sum(timed.seconds.values()) / 60
    if minutes >= 1:
        task.progress.note(f"computing features that are not kept yet: up to {minutes:.0f} min")
    for name, seconds in sorted(timed.seconds.items(), key=lambda item: item[1]):
        rows.append(_judged(ahead[name], seconds, task))
    return rows


def _prospects(names: Sequence[str], task: Task) -> tuple[dict[str, Prospect], list[Row]]:
    """What is to be timed, and rows of the rest."""
    ahead: dict[str, Prospect] = {}
    rows: list[Row] = []
    for name in names:
        try:
            found = prospect(name, task.side)
            if task.offline and is_elsewhere(name):
                create_model(name, pretrained=True)  # what the cache has not is not worth the time
        except FAILURES as error:
            rows.append(Row(name=name, status="failed", reason=why(error, task.unreachable)))
            continue
        count = found.entrant.params
        if task.max_params is not None and count > 1e6 * task.max_params:
            rows.append(_row(found, status="too large", reason=f"too large: {count / 1e6:.1f} M parameters"))
        else:
            ahead[name] = found
    return ahead, rows


def _judged(found: Prospect, latency: float, task: Task) -> Row:
    started = time.monotonic()
    try:
        torch.manual_seed(seed_of(0, "recommend", found.name))  # of what a partial checkpoint leaves to chance
        model = create_model(found.name, pretrained=True, img_size=task.side)
        features, kept = features_of(
            model, task.sample.images, task.device, task.features, task.workers, task.progress, found.name
        )
        scores = proxy(features, task.sample)
    except FAILURES as error:
        return _row(found, status="failed", reason=why(error, task.unreachable), latency=latency)
    how = "features kept from before" if kept else f"{time.monotonic() - started:.0f} s"
    task.progress.note(
        f"{found.name}: linear probe {scores.linear.mean:.1%}, nearest neighbours {scores.knn.mean:.1%}, "
        f"{milliseconds(latency)} an image ({how})"
    )
    return _row(found, status="judged", latency=latency, proxy=scores)


def _row(found: Prospect, **facts: object) -> Row:
    size, count = found.entrant.img_size, found.entrant.params
    return Row(name=found.name, licence=found.licence, img_size=size, params=count, **facts)  # pyright: ignore[reportArgumentType]
