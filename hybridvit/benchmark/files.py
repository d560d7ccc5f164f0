"""Files of results: JSON lines in the closed schema of `records`.

An unknown, missing or ill-typed field is an error that names the line, so a file of results stays readable for years.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from .records import FORMAT, BenchmarkError, Result


def append_result(path: Path, result: Result) -> None:
    """Adds the result to the file, which stays as it was where the disk is full."""
    append_line(path, json.dumps(dataclasses.asdict(result)))


def append_line(path: Path, text: str) -> None:
    """Adds one line to the file, in a single write: a disk that runs full leaves the file as it was."""
    line = text.encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(f"{path}: the disk is full")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def read_results(path: Path) -> list[Result]:
    """The results of a file. Raises BenchmarkError, naming file and line, for anything outside the schema."""
    results: list[Result] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        where = f"{path}:{number}"
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise BenchmarkError(f"{where}: not JSON ({error}); delete the line") from None
        results.append(_from_data(data, Result, where))
        if results[-1].format != FORMAT:
            raise BenchmarkError(f"{where}: format {results[-1].format}, this hybridvit reads format {FORMAT}")
    return results


def _from_data(value: Any, hint: Any, where: str) -> Any:
    """Typed data from JSON's: dataclasses, tuples, dicts, unions with None, literals, and plain values."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass_from(value, hint, where)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _from_data(value, arguments[0], where)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        hints: Iterable[Any] = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(tuple(hints)) == len(value):
            return tuple(
                _from_data(item, h, f"{where}[{i}]") for i, (item, h) in enumerate(zip(value, hints, strict=True))
            )
    if origin is dict and isinstance(value, Mapping):
        return {name: _from_data(item, arguments[1], f"{where}: {name}") for name, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise BenchmarkError(f"{where}: expected {hint}, found {value!r}")


def _dataclass_from(value: Any, cls: Any, where: str) -> Any:
    hints = typing.get_type_hints(cls)
    if not isinstance(value, Mapping):
        raise BenchmarkError(f"{where}: expected the fields of {cls.__name__}, found {value!r}")
    if value.keys() != hints.keys():
        missing, unknown = sorted(hints.keys() - value.keys()), sorted(value.keys() - hints.keys())
        raise BenchmarkError(f"{where}: {cls.__name__} lacks {missing} and has unknown {unknown}")
    return cls(**{name: _from_data(value[name], hint, f"{where}: {name}") for name, hint in hints.items()})
