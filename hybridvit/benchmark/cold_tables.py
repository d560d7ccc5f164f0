"""Results of the cold-start suite as Markdown: a table a model, a row a figure, a column a side."""

from __future__ import annotations

from collections.abc import Iterable

from .cold_start import FILE
from .records import Figure, Result, Side


def cold_start_tables(results: Iterable[Result]) -> str:
    """Medians, with their ratio to ours in the same round (p10-p90), and memory as a multiple of the weights file."""
    return "\n".join(_table(result) for result in results)


def _table(result: Result) -> str:
    sides = [side for side in result.sides if not side.failed]
    names = [name for name in sides[0].figures if name != FILE]
    rows = [
        ["", *(_title(side) for side in sides)],
        ["---"] + ["---:"] * len(sides),
        *([name, *(_cell(side, name) for side in sides)] for name in names),
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return f"#### `{result.model}`\n\n" + "\n".join(lines) + "\n"


def _title(side: Side) -> str:
    layout = side.settings["layout"]
    return side.name if layout in (side.name, "own") else f"{side.name}, {layout}'s layout"


def _cell(side: Side, name: str) -> str:
    figure = side.figures.get(name)
    if figure is None:
        return ""
    if figure.unit == "MiB":
        of_file = figure.spread.median / side.figures[FILE].spread.median
        return f"{figure.spread.median:.0f} MiB, {of_file:.2f} of the file"
    return f"{figure.spread.median:.3f} s{_ratio(figure)}"


def _ratio(figure: Figure) -> str:
    ratio = figure.ratio
    return f", {ratio.median:.1f}x ({ratio.p10:.1f}-{ratio.p90:.1f})" if ratio else ""
