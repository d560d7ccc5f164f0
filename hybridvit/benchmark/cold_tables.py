"""Results of the cold-start suite as Markdown, with memory as a multiple of the file that the weights are in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .records import Figure, Result, Side

_TIMES = ("import beyond torch", "create", "first inference", "create to first answer")
_PROCESSOR = ("processor time of create", "processor time to first answer")
_MEMORY = ("peak memory after create", "private memory after create", "peak memory after first answer")


def cold_start_tables(results: Sequence[Result]) -> str:
    """Three tables: times, processor times, and memory over the size of the weights file; a row a side."""
    parts = [
        _table(results, {name: (name, _seconds) for name in names} | ({"list": ("`list`", _seconds)} if listed else {}))
        for names, listed in ((_TIMES, True), (_PROCESSOR, False))
    ]
    return "\n\n".join([*parts, _memory_table(results)]) + "\n"


def _seconds(figure: Figure) -> str:
    return f"{figure.spread.median:.3f} s{_ratio(figure)}"


def _ratio(figure: Figure) -> str:
    """How much worse than ours in the same round."""
    ratio = figure.ratio
    return f", {ratio.median:.1f}x ({ratio.p10:.1f}-{ratio.p90:.1f})" if ratio else ""
