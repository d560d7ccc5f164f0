"""Where the labels of a table are, and whether an image can have several."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError
from .listing import encode, label_text, label_texts, quoted

if TYPE_CHECKING:
    from pathlib import Path

    from .rows import Row

LABEL_COLUMNS = ("label", "class", "labels", "tags", "target")
_SEPARATORS = ";|"
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


class Labels(NamedTuple):
    """encoded: as in `ImageSet.labels`; told: where they were found."""

    classes: tuple[str, ...]
    encoded: np.ndarray
    told: str


def find_labels(columns: list[str], rows: list[Row], others: set[str | None], path: Path) -> Labels:
    """The labels in a column with an obvious name, or else in one 0/1 column a class. others: not label columns."""
    found = [name for name in columns if name not in others and name.strip().lower() in LABEL_COLUMNS]
    if len(found) == 1:
        return _of_column(found[0], rows, path)
    rest = [name for name in columns if name not in others]
    if not found and len(rest) > 1:
        flags = [[_flag(row.values.get(name)) for name in rest] for row in rows]
        if not any(None in line for line in flags):
            told = f"labels from the {len(rest)} columns of 0 and 1 ({quoted(rest)})"
            return Labels(tuple(rest), np.array(flags, dtype=np.float32), told)
    have = f"several label columns ({quoted(found)})" if found else "no label column"
    raise DataError(
        f"{path} has {have}; its columns are {quoted(columns)}. Call just one of them {', '.join(LABEL_COLUMNS)}, or "
        "give one column of 0 and 1 a class, and nothing else"
    )


def _of_column(column: str, rows: list[Row], path: Path) -> Labels:
    values = [(f"{path}, line {row.line}", _unpacked(row.values.get(column))) for row in rows]
    separators = {mark for _, value in values if isinstance(value, str) for mark in _SEPARATORS if mark in value}
    if len(separators) > 1:
        raise DataError(f"{path}: labels of column {column!r} are separated by ; and by |; use one of them")
    lists = any(isinstance(value, list) for _, value in values)
    if not lists and not separators:
        classes, encoded = encode([(label_text("" if value is None else value, at),) for at, value in values], False)
        return Labels(classes, encoded, f"one label an image from column {column!r}")
    separator = separators.pop() if separators else None
    classes, encoded = encode([_several(value, separator, at) for at, value in values], True)
    how = f"separated by {separator}" if separator else "in lists"
    return Labels(classes, encoded, f"several labels an image from column {column!r}, {how}")


def _unpacked(value: Any) -> Any:
    """A JSON list may be written in a cell."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _several(value: Any, separator: str | None, where: str) -> tuple[str, ...]:
    """An empty cell is an image without a label."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(separator)] if separator else [value]
        value = [part for part in value if part] or [" "]
    return label_texts(value, where)


def _flag(value: Any) -> int | None:
    return _FLAGS.get(str(value).strip().lower())
