"""The linear probe's figure against latency, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..transfer.charts import BLUE, ORANGE, plain_text, shortened
from ..transfer.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .ranking import Ranking, Row
    from .result import Recommendation

_GREY = "#8b949e"
_LONGEST_NAME = 52


@plain_text()
def picture(found: Recommendation, path: Path) -> None:
    """PNG of the candidates that were judged, by their number in the ranking, with bars of one standard error."""
    from matplotlib.figure import Figure

    ranking = found.ranking
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.add_subplot()
    for number, row in enumerate(ranking.judged, start=1):
        _draw(axes, number, row, ranking)
    milliseconds = [1000 * row.seconds for row in ranking.front]
    front = [100 * row.linear.mean for row in ranking.front]
    axes.plot(milliseconds, front, color=BLUE, linewidth=1, zorder=1, drawstyle="steps-post", label="Pareto front")
    best = ranking.best.linear
    band = 100 * (best.mean - best.standard_error), 100 * best.mean
    axes.axhspan(*band, color=BLUE, alpha=0.1, linewidth=0, label="one standard error below the best")
    axes.axhline(100 * found.majority, color=_GREY, linestyle=":", linewidth=1, label="commonest class")
    if found.limit is not None:
        axes.axvline(1000 * found.limit, color=_GREY, linestyle="--", linewidth=1, label=f"{1000 * found.limit:g} ms")
    _scale(axes)
    axes.set_xlabel(f"milliseconds an image, one at a time, on {found.where}")
    axes.set_ylabel(f"linear probe: {found.figure} on held-out images, percent")
    total, name = len(ranking.rows), Path(found.data.rpartition(":")[2]).absolute().name
    others = f", {total - len(ranking.judged)} not judged" if total > len(ranking.judged) else ""
    axes.set_title(f"{name}: {found.images:,} images{others}", fontsize=11)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


def _scale(axes: Axes) -> None:
    """Latency on a logarithmic scale, whose numbers are written out: powers would be mathematics."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.08)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, high / 4), high)  # there are numbers to read if all are equally fast
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw(axes: Axes, number: int, row: Row, ranking: Ranking) -> None:
    at = 1000 * row.seconds, 100 * row.linear.mean
    colour = ORANGE if row is ranking.fastest else BLUE if row in ranking.front else _GREY
    label = f"{number}  {shortened(row.name, _LONGEST_NAME)}{'  (recommended)' if row is ranking.fastest else ''}"
    bar = {"yerr": 100 * row.linear.standard_error, "elinewidth": 1, "capsize": 2}
    axes.errorbar(*at, fmt="o", color=colour, zorder=2, label=label, **bar)
    axes.annotate(str(number), at, fontsize=9, xytext=(5, 3), textcoords="offset points")
