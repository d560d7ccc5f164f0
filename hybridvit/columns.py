"""Long tables on a terminal as plain columns: rich takes a third of a second to lay out the rows of the zoo."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence

GAP = " "


def columns(header: Sequence[str], tables: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, list[str]]:
    """The lines of each table, all with the same header and the same widths.

    The first and the last column are flush left and folded where the terminal is too narrow, the others flush right.
    """
    rows = [header, *itertools.chain.from_iterable(tables.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = shutil.get_terminal_size().columns - len(GAP) * (len(widths) - 1) - sum(widths[1:-1])
    widths[-1] = max(1, min(widths[-1], max(room - widths[0], room // 3)))
    widths[0] = max(1, min(widths[0], room - widths[-1]))
    return {
        title: [line for row in (header, *table) for line in _lines(row, widths)] for title, table in tables.items()
    }


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    first, *middle, last = row
    parts = itertools.zip_longest(_folded(first, widths[0]), [middle], _folded(last, widths[-1]))
    for start, numbers, end in parts:
        cells = numbers or [""] * len(middle)
        between = (cell.rjust(width) for cell, width in zip(cells, widths[1:-1], strict=True))
        yield GAP.join([(start or "").ljust(widths[0]), *between, end or ""]).rstrip()


def _folded(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]
