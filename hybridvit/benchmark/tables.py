"""Results as tables: on a terminal, and as Markdown for the documentation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from rich.table import Table

from .records import Result, Side, Spread

HEADER = (
    "model",
    "side",
    "params",
    "GFLOPs",
    "size",
    "batch",
    "ms a batch (p10-p90)",
    "images/s",
    "time over ours (p10-p90)",
    "peak MiB",
)


def terminal_table(results: Iterable[Result]) -> Table:
    """One row a side, ours first."""
    table = Table(*HEADER[:2])
    for name in HEADER[2:]:
        table.add_column(name, justify="right")
    for result in results:
        for index, side in enumerate(result.sides):
            table.add_row(*_row(result, side), end_section=index == len(result.sides) - 1)
    return table


def markdown(results: Sequence[Result]) -> str:
    """A table for each machine, versions and settings, with these above it."""
    parts: list[str] = []
    for circumstances, group in itertools.groupby(results, key=_circumstances):
        rows = [_row(result, side) for result in group for side in result.sides]
        alignment = ("---", "---", *["---:"] * (len(HEADER) - 2))
        parts.append(circumstances)
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in (HEADER, alignment, *rows)))
    return "\n\n".join(parts) + "\n"


def _row(result: Result, side: Side) -> tuple[str, ...]:
    height, width = result.img_size
    return (
        result.model,
        side.name,
        f"{result.params / 1e6:.2f}M",
        f"{result.flops / 1e9:.2f}",
        f"{height}x{width}",
        str(result.batch),
        _spread(side.latency_ms, 1),
        f"{side.images_per_second.median:.1f}",
        _spread(side.ratio, 2) if side.ratio else "",
        "" if side.peak_memory_mib is None else f"{side.peak_memory_mib:.0f}",
    )


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.p10:.{digits}f}-{spread.p90:.{digits}f})"


def _circumstances(result: Result) -> str:
    machine, settings, versions = result.machine, result.settings, result.versions
    where = f"{machine.gpu}, {machine.cpu}" if machine.gpu else machine.cpu
    allocator = ", ".join(f"{name}={value}" for name, value in result.allocator.items()) or "defaults"
    commit, dash, dirty = (result.commit or "").partition("-")
    return (
        f"{where}, {machine.cores} cores, {machine.memory_gib:g} GiB; device {settings.device}, {settings.precision}, "
        f"{'torch.compile' if settings.compile else 'eager'}, {settings.threads} threads, {settings.rounds} rounds; "
        f"allocator: {allocator}. Python {versions.python}, torch {versions.torch}, timm {versions.timm or 'absent'}, "
        f"hybridvit {versions.hybridvit}{f' at {commit[:12]}{dash}{dirty}' if commit else ''}, {result.date[:10]}."
    )
