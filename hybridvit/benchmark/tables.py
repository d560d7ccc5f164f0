"""Results as tables: on a terminal, and as Markdown for the documentation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from rich.table import Table

from .cold_tables import HeaderAndRows, cold_start_table
from .records import Figure, Result, Side, Spread, Unit

# How a unit is shown: its name, the factor to it, and the digits behind the point.
_SHOWN: dict[Unit, tuple[str, float, int]] = {
    "s": ("ms", 1000, 2),
    "MiB": ("MiB", 1, 0),
    "images/s": ("images/s", 1, 1),
    "share": ("%", 100, 1),
    "images": ("images", 1, 0),
    "tokens": ("tokens", 1, 0),
}


def terminal_tables(results: Iterable[Result]) -> list[Table]:
    """A table a suite, one row a side, ours first; of cold starts a table a model, one column a side."""
    tables: list[Table] = []
    for suite, group in itertools.groupby(results, key=lambda result: result.suite):
        for header, rows in _headers_and_rows(list(group)):
            table = Table(*header[:2], title=suite)
            for name in header[2:]:
                table.add_column(name, justify="right")
            for row in rows:
                table.add_row(*row)
            tables.append(table)
    return tables


def markdown(results: Sequence[Result]) -> str:
    """The tables of each suite, machine, versions and settings, with these above them."""
    parts: list[str] = []
    for circumstances, group in itertools.groupby(results, key=_circumstances):
        parts.append(circumstances)
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
    header = ["model", "side", "params", "GFLOPs", "size", "batch"]
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
    return [_value(figure), *[_spread(figure.ratio, 1, 2) if figure.ratio else ""] * compared]


def _value(figure: Figure) -> str:
    _, factor, digits = _SHOWN[figure.unit]
    if len(figure.values) == 1:
        return f"{factor * figure.spread.median:.{digits}f}"
    return _spread(figure.spread, factor, digits)


def _spread(spread: Spread, factor: float, digits: int) -> str:
    median, p10, p90 = (f"{factor * value:.{digits}f}" for value in (spread.median, spread.p10, spread.p90))
    return f"{median} ({p10}-{p90})"


def _circumstances(result: Result) -> str:
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
