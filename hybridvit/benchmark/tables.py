"""Results as tables: on a terminal, and as Markdown for the documentation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from rich.table import Table

from .cold_tables import HeaderAndRows, cold_start_table
from .records import Result, Side, Spread, Unit

# How a unit is shown: its name, the factor to it, and the digits behind the point.
_SHOWN: dict[Unit, tuple[str, float, int]] = {
    "s": ("ms", 1000, 2),
    "MiB": ("MiB", 1, 0),
    "images/s": ("images/s", 1, 1),
    "share": ("%", 100, 1),
    "images": ("images", 1, 0),
    "tokens": ("tokens", 1, 0),
    "misses": ("misses", 1, 0),
}

_FACTS = ("model", "side", "params", "GFLOPs", "size", "batch")


def terminal_table(result: Result) -> Table:
    """One row a side, ours first, or of cold starts one column; what all sides have in common is the title."""
    if result.suite == "cold_start":
        return _table(*cold_start_table(result), title=result.suite)
    header, rows = _header_and_rows([result])
    model, _, params, gflops, size, batch = rows[0][: len(_FACTS)]
    facts = (model, size, batch and f"batch {batch}", params and f"{params} parameters", gflops and f"{gflops} GFLOPs")
    apart = [(row[1], *row[len(_FACTS) :]) for row in rows]
    return _table(("side", *header[len(_FACTS) :]), apart, title=", ".join(filter(None, (result.suite, *facts))))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> Table:
    table = Table(header[0], title=title, title_justify="left")
    for name in header[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(results: Sequence[Result]) -> str:
    """The tables of each suite, machine, versions and settings, with these above them."""
    parts: list[str] = []
    for shared, group in itertools.groupby(results, key=circumstances):
        parts.append(shared)
        for header, rows in _headers_and_rows(list(group)):
            alignment = ("---", "---", *["---:"] * (len(header) - 2))
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in (header, alignment, *rows)))
    return "\n\n".join(parts) + "\n"


def _headers_and_rows(results: Sequence[Result]) -> list[HeaderAndRows]:
    """The tables of results of one suite."""
    if results[0].suite == "cold_start":
        return [cold_start_table(result) for result in results]
    return [_header_and_rows(results)]


def _header_and_rows(results: Sequence[Result]) -> HeaderAndRows:
    """A column for each figure that any side has, and one for its ratio if any has that."""
    figures: dict[str, Unit] = {
        name: figure.unit for result in results for side in result.sides for name, figure in side.figures.items()
    }
    compared = {name for result in results for side in result.sides for name, f in side.figures.items() if f.ratio}
    header: list[str] = list(_FACTS)
    for name, unit in figures.items():
        shown = _SHOWN[unit][0]
        header.append(name if name.endswith(shown) else f"{name}, {shown}")
        header += [f"{name}: ratio"] * (name in compared)
    fails = any(side.failed for result in results for side in result.sides)
    header += ["failed"] * fails
    rows = [
        (
            *_facts(result, side),
            *(cell for name in figures for cell in _cells(side, name, name in compared)),
            *[side.failed or ""] * fails,
        )
        for result in results
        for side in result.sides
    ]
    return tuple(header), rows


def _facts(result: Result, side: Side) -> tuple[str, ...]:
    return (
        result.model or "",
        side.name,
        "" if result.params is None else f"{result.params / 1e6:.2f}M",
        "" if result.flops is None else f"{result.flops / 1e9:.2f}",
        "" if result.img_size is None else "{}x{}".format(*result.img_size),
        "" if result.batch is None else str(result.batch),
    )


def _cells(side: Side, name: str, compared: bool) -> list[str]:
    figure = side.figures.get(name)
    if figure is None:
        return ["", *[""] * compared]
    _, factor, digits = _SHOWN[figure.unit]
    several = len(figure.values) > 1
    ratio = _spread(figure.ratio, 1, 2, several) if figure.ratio else ""
    return [_spread(figure.spread, factor, digits, several), *[ratio] * compared]


def _spread(spread: Spread, factor: float, digits: int, several: bool) -> str:
    median, p10, p90 = (f"{factor * value:.{digits}f}" for value in (spread.median, spread.p10, spread.p90))
    return f"{median} ({p10}-{p90})" if several else median


def circumstances(result: Result) -> str:
    """Settings, machine, allocator and versions of a result, in a line."""
    machine, settings, versions = result.machine, result.settings, result.versions
    where = f"{machine.gpu.name}, {machine.cpu}" if machine.gpu else machine.cpu
    how = [f"{result.suite}: device {settings.device}", settings.precision]
    how += [f"compile mode {settings.compile}"] * (settings.compile is not None)
    how += ["CUDA graphs"] * settings.cuda_graph + [f"{settings.processes} processes"] * (settings.processes > 1)
    allocator = ", ".join(f"{name}={value}" for name, value in result.allocator.items()) or "defaults"
    peaks = result.peaks and f"peaks: {result.peaks.matrix_gflops:.0f} GFLOP/s, {result.peaks.copy_gbs:.0f} GB/s. "
    peers = {name: getattr(versions, name) or "absent" for name in ("torch", "timm", "transformers", "torchvision")}
    commit, dash, dirty = (result.commit or "").partition("-")
    return (
        f"{', '.join(how)}, {settings.threads} threads, {settings.rounds} rounds; {where}, {machine.cores} cores, "
        f"{machine.memory_gib:g} GiB; allocator: {allocator}. {peaks or ''}Python {versions.python}, "
        f"{', '.join(f'{name} {version}' for name, version in peers.items())}, "
        f"hybridvit {versions.hybridvit}{f' at {commit[:12]}{dash}{dirty}' if commit else ''}, {result.date[:10]}."
    )
