"""What changed between two files of results: regressions told from noise.

Figures are paired by suite, model, batch, size, settings, side, and name. Of each pair the ratio of the medians is
taken with a bootstrap interval: the rounds of either file are drawn again with replacement, 2,000 times, and the middle
95% of the ratios of these medians are the interval. A change counts if the interval excludes 1 and the ratio lies
further from 1 than the threshold. A time or rate of fewer than 5 rounds has no interval worth the name and never
counts; a memory peak hardly varies and counts by its threshold alone.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .records import BenchmarkError, Figure, Result, Side, Unit

THRESHOLD, CONFIDENCE, DRAWS, FEWEST_ROUNDS = 0.05, 0.95, 2000, 5

Verdict = Literal["worse", "better", "same", "too few rounds", "missing", "new"]

# Conditions of a run that do not change what is measured.
_FREE = ("rounds", "round_seconds", "warmup")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A figure in both files. `ratio` is after over before, and `low` to `high` its interval; above 1 is an
    improvement, whatever the unit. They are None where a file lacks the figure."""

    what: tuple[str, ...]
    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


def compare(
    before: Sequence[Result], after: Sequence[Result], threshold: float = THRESHOLD, control: str | None = None
) -> list[Change]:
    """Every figure of both, in the order of the first; a side that failed anew is worse.

    With `control`, a side's name, each time and rate is first divided by that side's in the same round, which takes out
    how fast the machine was at the time.

    Raises BenchmarkError if the two have nothing in common.
    """
    old, new = _figures(before, control), _figures(after, control)
    if not old.keys() & new.keys():
        raise BenchmarkError("the two files have no figure in common: models, sides or settings differ in all of them")
    failed = {_key(result, side) for result in after for side in result.sides if side.failed}
    changes: list[Change] = []
    for key, (unit, values) in old.items():
        if key in new:
            changes.append(_change(key, unit, values, new[key][1], threshold))
        else:
            changes.append(Change(what=key, verdict="worse" if key[:-1] in failed else "missing"))
    return changes + [Change(what=key, verdict="new") for key in new if key not in old]


def report(changes: Sequence[Change]) -> str:
    """What changed, the worst first, and how many did not."""
    shown = sorted(
        (change for change in changes if change.verdict in ("worse", "better", "missing", "new")),
        key=lambda change: ("worse", "missing", "better", "new").index(change.verdict),
    )
    lines = [f"{change.verdict}: {', '.join(filter(None, change.what))}{_interval(change)}" for change in shown]
    counts = defaultdict[str, int](int)
    for change in changes:
        counts[change.verdict] += 1
    return "\n".join([*lines, ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])


def _interval(change: Change) -> str:
    if change.ratio is None:
        return ""
    return f": {change.ratio:.3f} times as good ({change.low:.3f}-{change.high:.3f})"


def _key(result: Result, side: Side) -> tuple[str, ...]:
    settings = dataclasses.asdict(result.settings)
    usual = dataclasses.asdict(type(result.settings)())
    said = [f"{name}={value}" for name, value in settings.items() if name not in _FREE and value != usual[name]]
    size = "{}x{}".format(*result.img_size) if result.img_size else ""
    batch = f"batch {result.batch}" if result.batch else ""
    apart = " ".join(f"{name}={value}" for name, value in side.settings.items())
    return result.suite, result.model or "", batch, size, " ".join(said), side.name, apart


def _figures(results: Sequence[Result], control: str | None) -> dict[tuple[str, ...], tuple[Unit, list[float]]]:
    """The values of each figure, of several runs one after another."""
    found: dict[tuple[str, ...], tuple[Unit, list[float]]] = {}
    for result in results:
        controls = next((side.figures for side in result.sides if side.name == control), {})
        for side in result.sides:
            if side.name == control:
                continue
            for name, figure in side.figures.items():
                if figure.unit in ("s", "MiB", "images/s") and min(figure.values) > 0:
                    values = _over(figure, controls.get(name)) if control else list(figure.values)
                    found.setdefault((*_key(result, side), name), (figure.unit, []))[1].extend(values)
    return {key: entry for key, entry in found.items() if entry[1]}


def _over(figure: Figure, control: Figure | None) -> list[float]:
    if figure.unit == "MiB":
        return list(figure.values)
    if control is None or len(control.values) != len(figure.values):
        return []
    return [value / other for value, other in zip(figure.values, control.values, strict=True)]


def _change(
    key: tuple[str, ...], unit: Unit, before: Sequence[float], after: Sequence[float], threshold: float
) -> Change:
    draw = np.random.default_rng(0)
    old, new = (np.median(draw.choice(values, (DRAWS, len(values))), axis=1) for values in (before, after))
    ratios, ratio = new / old, float(np.median(after) / np.median(before))
    if unit != "images/s":  # less is better
        ratios, ratio = 1 / ratios, 1 / ratio
    tail = 50 * (1 - CONFIDENCE)
    low, high = (float(value) for value in np.percentile(ratios, [tail, 100 - tail]))
    verdict: Verdict = "same"
    if unit != "MiB" and min(len(before), len(after)) < FEWEST_ROUNDS:
        verdict = "too few rounds"
    elif high < 1 and ratio < 1 / (1 + threshold):
        verdict = "worse"
    elif low > 1 and ratio > 1 + threshold:
        verdict = "better"
    return Change(what=key, verdict=verdict, ratio=ratio, low=low, high=high)
