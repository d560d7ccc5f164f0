"""Memory and time against tokens: curves of several models, and how steep they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .records import BenchmarkError, Result
from .sides import OURS

Quantity = Literal["memory", "time"]
_FIGURES: dict[Quantity, tuple[str, str]] = {
    "memory": ("inference peak", "peak of memory beyond the weights, MiB"),
    "time": ("inference time", "time of one image, s"),
}
MIB = 2**20
_STEEP_PART = 3  # sizes, the largest: at small ones what does not grow hides what does


class Point(NamedTuple):
    """A model at one size: tokens behind the stem, and MiB or seconds."""

    tokens: float
    value: float


def weights_mib(result: Result) -> float:
    """What the weights of a result's model take, in single precision."""
    return 4 * (result.params or 0) / MIB


def beyond_weights(result: Result) -> float | None:
    """Peak memory of inference less the weights, in MiB; None where it was not measured."""
    peak = result.sides[0].figures.get("inference peak")
    return None if peak is None else peak.spread.median - weights_mib(result)


def curves(results: Sequence[Result], quantity: Quantity, side: str = OURS) -> dict[str, list[Point]]:
    """The points of each model by number of tokens, from results of the memory suite in single precision."""
    found: dict[str, list[Point]] = {}
    for result in results:
        measured = next((each for each in result.sides if each.name == side), None)
        figure = measured and measured.figures.get(_FIGURES[quantity][0])
        if result.suite != "memory" or result.model is None or not figure:
            continue
        value = figure.spread.median - (weights_mib(result) if quantity == "memory" else 0)
        tokens = result.sides[0].figures["tokens"].spread.median
        found.setdefault(result.model, []).append(Point(tokens, value))
    return {model: sorted(points) for model, points in found.items()}


def slope(points: Sequence[Point]) -> float:
    """The power of the number of tokens that the values grow with, over the largest sizes: 1 is linear, 2 a square."""
    if len(points) < 2:
        raise BenchmarkError("a curve needs two sizes at least")
    tokens, values = zip(*points[-_STEEP_PART:], strict=True)
    return float(np.polyfit(np.log(tokens), np.log(values), 1)[0])


def plot(results: Sequence[Result], path: Path, quantity: Quantity, side: str = OURS) -> None:
    """Writes the curves as an SVG with logarithmic axes, on no background, in colours that show on light and dark.

    Raises BenchmarkError if results have no curve, and ModuleNotFoundError without matplotlib.
    """
    import matplotlib
    from matplotlib.figure import Figure

    found = {model: points for model, points in curves(results, quantity, side).items() if len(points) > 1}
    if not found:
        raise BenchmarkError(f"no model was measured at two sizes with {_FIGURES[quantity][0]!r} of {side!r}")
    grey = "#808080"
    style: dict[Any, Any] = {"text.color": grey, "axes.labelcolor": grey, "axes.edgecolor": grey, "xtick.color": grey}
    # The same results give the same file, byte for byte, so that a change shows.
    style |= {"ytick.color": grey, "svg.hashsalt": "hybridvit", "svg.fonttype": "path"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8, 6), layout="constrained")
        axes = figure.subplots()
        marks = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")
        for number, (model, points) in enumerate(sorted(found.items(), key=lambda item: -slope(item[1]))):
            tokens, values = zip(*points, strict=True)
            label = f"{model}: slope {slope(points):.2f}"
            axes.plot(tokens, values, marker=marks[number % len(marks)], markersize=4, linewidth=1.2, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("tokens behind the stem")
        axes.set_ylabel(_FIGURES[quantity][1])
        axes.grid(alpha=0.2)
        axes.legend(fontsize=7, framealpha=0, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
