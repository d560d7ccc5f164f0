"""The table of a cold start: a row a figure, a column a side, and memory as a multiple of the weights file."""

from __future__ import annotations

from .cold_start import FILE
from .records import Figure, Result, Side

HeaderAndRows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def cold_start_table(result: Result) -> HeaderAndRows:
    """Header and rows: medians, and behind a time its ratio to ours in the same round (p10-p90)."""
    names = [name for name in result.sides[0].figures if name != FILE]
    rows = [(name, *(_cell(side, name) for side in result.sides)) for name in names]
    if any(side.failed for side in result.sides):
        rows.append(("failed", *(side.failed or "" for side in result.sides)))
    return (result.model or "", *(_title(side) for side in result.sides)), rows


def _title(side: Side) -> str:
    layout = side.settings.get("layout", "own")
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
