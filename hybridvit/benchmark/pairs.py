"""One side against another over many models: the ratio of each, their geometric mean, and the worst."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from .records import BenchmarkError, Figure, Result, Side, Spread

# What two sides are weighed by: the first that both have.
_FIGURES = ("latency", "step", "throughput")


def pairs(results: Sequence[Result], one: str, other: str) -> str:
    """A Markdown table of how many times faster `one` is than `other`, in rounds that belong together.

    Raises BenchmarkError if no result has times of both sides.
    """
    rows = [(result, spread) for result in results if (spread := ratio(result, one, other))]
    if not rows:
        raise BenchmarkError(f"no result has times of both {one!r} and {other!r}")
    medians = [spread.median for _, spread in rows]
    lines = [f"| model | size | batch | {one} against {other} (p10-p90) |", "| --- | ---: | ---: | ---: |"]
    for result, spread in rows:
        size = "{}x{}".format(*result.img_size) if result.img_size else ""
        shown = f"{spread.median:.2f} ({spread.p10:.2f}-{spread.p90:.2f})"
        lines.append(f"| {result.model} | {size} | {result.batch or 'best'} | {shown} |")
    lines.append(f"| geometric mean of {len(rows)} | | | {statistics.geometric_mean(medians):.2f} |")
    lines.append(f"| worst | | | {min(medians):.2f} |")
    return "\n".join(lines) + "\n"


def ratio(result: Result, one: str, other: str) -> Spread | None:
    """How many times faster one side is than another; None where the result lacks one of them."""
    sides = {side.name: side for side in result.sides}
    if one not in sides or other not in sides:
        return None
    return next((Figure.of(b.unit, b.values, a).ratio for a, b in _shared(sides[one], sides[other])), None)


def _shared(one: Side, other: Side) -> Iterator[tuple[Figure, Figure]]:
    for name in _FIGURES:
        if name in one.figures and name in other.figures:
            yield one.figures[name], other.figures[name]
