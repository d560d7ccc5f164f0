"""A table of paths and labels: CSV, TSV or JSON lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from ...errors import DataError
from ..files import Files
from ..listing import Listing, in_order, quoted, split_named
from ..rows import TABLE_SUFFIXES, Row, read_rows
from ..table_labels import find_labels

PATH_COLUMNS = ("path", "image", "file", "filename", "filepath", "file_name", "image_path")
SPLIT_COLUMN = "split"


class Table:
    """A column with paths, relative to the table's folder or to `image_root`, and one or several labels a row."""

    prefix: ClassVar[str] = "table"
    folder = None  # its images are listed, so that nothing becomes one of them by lying beside them

    def __init__(self, address: str, image_root: Path | None) -> None:
        self.path = Path(address).expanduser()
        self.root = image_root.expanduser() if image_root else self.path.parent

    def splits(self) -> tuple[str, ...]:
        return in_order(self.listing().splits or ())

    def listing(self, split: str | None = None) -> Listing:
        if not self.root.is_dir():
            raise DataError(f"image_root {self.root} is no folder")
        columns, rows = read_rows(self.path)
        path_column = column_named(columns, PATH_COLUMNS, "with the paths of the images", self.path)
        split_column = next((name for name in columns if name.strip().lower() == SPLIT_COLUMN), None)
        splits = None if split_column is None else [_split(row, split_column, self.path) for row in rows]
        names, outside = _names(rows, path_column, self.path, self.root)
        labels = find_labels(columns, rows, {path_column, split_column}, self.path)
        notes = [f"{self.path.name}: paths from column {path_column!r}, {labels.told}"]
        if splits is not None:
            notes[0] += f", splits from column {split_column!r}"
        if outside:
            notes.append(f"{len(outside)} images lie outside {self.root} (first: {outside[0]})")
        kept = [index for index in range(len(names)) if split is None or splits is None or splits[index] == split]
        storage = Files(self.root, tuple(names[index] for index in kept))
        return Listing(
            where=str(self.path),
            classes=labels.classes,
            labels=labels.encoded[kept],
            names=storage.names,
            storage=storage,
            splits=None if splits is None else tuple(splits[index] for index in kept),
            notes=tuple(notes),
        )


def is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES


def column_named(columns: list[str], wanted: tuple[str, ...], what: str, path: Path) -> str:
    """The one column with one of these names. Raises DataError with the names there are."""
    found = [name for name in columns if name.strip().lower() in wanted]
    if len(found) != 1:
        have = f"several columns {what} ({quoted(found)})" if found else f"no column {what}"
        raise DataError(
            f"{path} has {have}; call just one of {quoted(columns)} by one of these names: {', '.join(wanted)}"
        )
    return found[0]


def _split(row: Row, column: str, path: Path) -> str:
    value = row.values.get(column)
    split = split_named(value) if isinstance(value, str) else None
    if split is None:
        raise DataError(f"{path}, line {row.line}: the split must be train, val or test, got {value!r}")
    return split


def _names(rows: list[Row], column: str, path: Path, root: Path) -> tuple[list[str], list[str]]:
    """(paths relative to the root, those outside it)."""
    line_of: dict[str, int] = {}
    outside = []
    for row in rows:
        where = f"{path}, line {row.line}"
        text = _path_text(row.values.get(column), column, where)
        name = os.path.normpath(os.path.relpath(text, root) if os.path.isabs(text) else text)
        name = Path(name).as_posix()
        if name in line_of:
            raise DataError(
                f"{where} names {name} again (as line {line_of[name]}); give each image one line, several labels "
                "separated by ;"
            )
        line_of[name] = row.line
        if name.startswith("../"):
            outside.append(name)
    return list(line_of), outside


def _path_text(value: Any, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: {column!r} must be a path, got {value!r}")
    if not value.strip() or "\0" in value:
        raise DataError(f"{where}: {column!r} is {'empty' if not value.strip() else 'no path'}")
    return value
