"""The rows of a CSV, TSV or JSON-lines file, with their line numbers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError

JSON_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)
_DELIMITERS = ",;\t"


class Row(NamedTuple):
    """line: counted from 1, as editors do; values by column."""

    line: int
    values: dict[str, Any]


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """(columns, rows). Raises DataError."""
    text = _text(path)
    columns, rows = _json_rows(text, path) if path.suffix.lower() in JSON_SUFFIXES else _csv_rows(text, path)
    if not rows:
        raise DataError(f"{path} has no rows")
    return columns, rows


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"table {path} not found")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save the table as UTF-8"
        ) from None


def _csv_rows(text: str, path: Path) -> tuple[list[str], list[Row]]:
    if not text.strip():
        raise DataError(f"{path} is empty")
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = next(reader)
        rows, line = [], reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(columns):
                raise DataError(
                    f"{path}, line {line}: {len(fields)} fields, but the first line names {len(columns)} columns "
                    f"({', '.join(columns)})"
                )
            if fields:
                rows.append(Row(line, dict(zip(columns, fields, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{path} has several columns {twice!r}; rename all but one")
    return columns, rows


def _json_rows(text: str, path: Path) -> tuple[list[str], list[Row]]:
    rows = []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            values = json.loads(content)
        except ValueError as error:
            raise DataError(f"{path}, line {line}: not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {line}: must be a JSON object, got {content.strip()[:40]}")
        rows.append(Row(line, values))
    return list(dict.fromkeys(name for row in rows for name in row.values)), rows
