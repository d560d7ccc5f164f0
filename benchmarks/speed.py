"""The speed of the target models in a few lines: our sides against those of other packages, over all of them."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Sequence

from hybridvit.benchmark import Result
from hybridvit.benchmark.pairs import ratio
from hybridvit.benchmark.tables import circumstances

# Against what another package gives by default, and against what its users do for speed.
PEERS = ("timm", "timm channels_last", "timm compiled", "timm channels_last compiled", "timm fp32")
OURS = ("hybridvit", "hybridvit optimized", "hybridvit compiled", "hybridvit optimized compiled")
# timm has not all of the models.
INSTEAD_OF_TIMM = "transformers"


def summary(results: Sequence[Result]) -> str:
    """Markdown: how many times faster each of our sides is than each other one, by batch."""
    lines: list[str] = []
    # Peaks are measured with each model anew.
    for shared, group in itertools.groupby(results, key=lambda r: circumstances(dataclasses.replace(r, peaks=None))):
        of_run = list(group)
        lines += [shared, "", _HEADER, "| --- | --- | ---: | ---: | ---: | --- | --- |"]
        for batch in sorted({result.batch or 0 for result in of_run}):
            at_batch = [result for result in of_run if (result.batch or 0) == batch]
            for one, other in itertools.product(OURS, PEERS):
                if compared := ratios(at_batch, one, other):
                    lines.append(_line(one, other, batch, compared))
        lines += ["", _shares(of_run), ""]
    return "\n".join(lines)


_HEADER = "| side | against | batch | models | geometric mean | least | most |"


def ratios(results: Sequence[Result], one: str, other: str) -> dict[str, float]:
    """By model, how many times faster one side is than another; of a model that timm lacks, than transformers'."""
    found: dict[str, float] = {}
    for result in results:
        spread = ratio(result, one, other)
        if spread is None and not any(side.name == "timm" for side in result.sides):
            spread = ratio(result, one, other.replace("timm channels_last", "timm").replace("timm", INSTEAD_OF_TIMM))
        if spread is not None:
            found[result.model or ""] = spread.median
    return found


def _line(one: str, other: str, batch: int, compared: dict[str, float]) -> str:
    ordered = sorted(compared, key=lambda model: compared[model])
    ends = (f"{compared[model]:.2f} `{model}`" for model in (ordered[0], ordered[-1]))
    mean = statistics.geometric_mean(compared.values())
    return f"| {one} | {other} | {batch or 'best'} | {len(compared)} | **{mean:.2f}** | {' | '.join(ends)} |"


def _shares(results: Sequence[Result]) -> str:
    """How near each side comes to what the machine can do, from its worst model to its best."""
    said: list[str] = []
    for figure, what in _SHARES.items():
        by_batch: list[str] = []
        for batch in sorted({result.batch or 0 for result in results}):
            shares: dict[str, list[float]] = {}
            for result in (result for result in results if (result.batch or 0) == batch):
                for side in result.sides:
                    if figure in side.figures:
                        shares.setdefault(side.name, []).append(side.figures[figure].spread.median)
            sides = (f"{name} {min(of_side):.0%} to {max(of_side):.0%}" for name, of_side in shares.items())
            by_batch += [f"at batch {batch or 'best'} {', '.join(sides)}"] * bool(shares)
        said += [f"{what}: {'; '.join(by_batch)}."] * bool(by_batch)
    return "\n\n".join(said)


_SHARES = {
    "of matrix peak": "Share of the peak of a matrix product",
    "of bandwidth": "Share of the time that reading the weights takes at the bandwidth of the memory",
}
