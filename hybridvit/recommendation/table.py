"""What was found of each candidate, as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..limits import printable
from .result import milliseconds

if TYPE_CHECKING:
    from rich.table import Table

    from .proxy import Score
    from .ranking import Row
    from .result import Recommendation

_LONGEST_NAME = 200


def heading(found: Recommendation) -> str:
    """What the figures of the table are."""
    commonest = f"always the commonest class: {100 * found.majority:.1f}"
    return f"{found.figure} on held-out images, percent ± one standard error; {commonest}"


def terminal_table(found: Recommendation) -> Table:
    """A row a candidate that was judged, the best first."""
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    numbers = [
        Column(name, justify="right", no_wrap=True) for name in ("params", "latency", "linear probe", "neighbours")
    ]
    first, last = Column("model", overflow="fold", ratio=1), Column("", no_wrap=True)
    table = Table(Column("", justify="right"), first, *numbers, last, box=box.SIMPLE_HEAD, pad_edge=False)
    for number, row in enumerate(found.ranking.judged, start=1):
        assert row.proxy is not None
        size = f"{row.params / 1e6:.1f}M" if row.params else "-"
        figures = milliseconds(row.seconds), _score(row.proxy.linear), _score(row.proxy.knn)
        style = "bold green" if row is found.recommended else ""
        name = Text(printable(row.name, _LONGEST_NAME))
        table.add_row(str(number), name, size, *figures, _place(row, found), style=style)
    return table


def not_judged(found: Recommendation) -> list[str]:
    """The other candidates and why, a line each."""
    return [f"{row.name}: {row.reason}" for row in found.ranking.rows if row.proxy is None]


def _score(score: Score) -> str:
    return f"{100 * score.mean:.1f} ± {100 * score.standard_error:.1f}"


def _place(row: Row, found: Recommendation) -> str:
    place = "best" if row is found.ranking.best else "tied" if row in found.ranking.tied else ""
    return ", ".join(filter(None, (place, "non-commercial" if row.non_commercial else "")))
