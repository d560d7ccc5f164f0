"""What a benchmark writes down: one JSON line a result, in a closed schema.

An unknown, missing or ill-typed field is an error that names the line, so a file of results stays readable for years.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

FORMAT = 1

Precision = Literal["fp32", "tf32", "bf16", "fp16", "amp-bf16", "amp-fp16"]


class BenchmarkError(ValueError):
    """A benchmark that cannot run or a results file that cannot be read; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, and the 10th and 90th percentile, over the rounds."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        p10, median, p90 = np.percentile(values, [10, 50, 90]).round(4).tolist()
        return cls(median=median, p10=p10, p90=p90)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How every side is run.

    Attributes:
        device: cpu, cuda, cuda:1, ... or mps.
        precision: fp32, bf16, fp16: weights and images in it; amp-: fp32 weights under autocast; tf32: fp32 with matrix
            products and convolutions that may round to TF32 (CUDA), which with fp32 they may not.
        compile: torch.compile of every side, with its defaults and for the one shape.
        round_seconds: a round calls a side again until about this much time has passed.
        warmup: calls before the first round.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    compile: bool = False
    threads: int = 1
    rounds: int = 20
    round_seconds: float = 0.25
    warmup: int = 3


@dataclass(frozen=True, kw_only=True)
class Side:
    """One implementation's share of a result.

    Attributes:
        round_ms: mean time of a batch in each round, in milliseconds; the other times follow from it.
        ratio: this side's time over ours in the same round: above 1, ours is faster. None for ours.
        first_call_s: seconds of the first call, with compilation where there is one.
        peak_memory_mib: peak of a process of its own that runs this side alone; None if not measured.
    """

    name: str
    round_ms: tuple[float, ...]
    latency_ms: Spread
    images_per_second: Spread
    ratio: Spread | None
    first_call_s: float
    peak_memory_mib: float | None

    @classmethod
    def of(
        cls, name: str, round_ms: Sequence[float], ours_ms: Sequence[float] | None, batch: int, first_call_s: float
    ) -> Side:
        """A side from its times; `ours_ms` are ours in the same rounds, None for ours itself."""
        ratios = ours_ms and [theirs / ours for theirs, ours in zip(round_ms, ours_ms, strict=True)]
        return cls(
            name=name,
            round_ms=tuple(round_ms),
            latency_ms=Spread.of(round_ms),
            images_per_second=Spread.of([1000 * batch / ms for ms in round_ms]),
            ratio=Spread.of(ratios) if ratios else None,
            first_call_s=round(first_call_s, 4),
            peak_memory_mib=None,
        )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Hardware and its state. `load_average` is the system's over the last minute before the measurement."""

    system: str
    cpu: str
    cores: int
    instruction_sets: tuple[str, ...]
    memory_gib: float
    gpu: str | None
    load_average: float


@dataclass(frozen=True, kw_only=True)
class Versions:
    python: str
    torch: str
    timm: str | None
    hybridvit: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One model at one batch size, on one machine. The first side is ours.

    Attributes:
        flops: of one image, a multiply-add counted as two.
        difference: largest difference of the outputs of ours and of its peer with equal weights, over the spread of the
            outputs; None without a peer.
        allocator: environment variables that steer memory allocators.
        commit: of hybridvit, ending in "-dirty" if files differed from it; None outside a checkout.
        date: ISO 8601, UTC.
    """

    format: int = FORMAT
    model: str
    batch: int
    img_size: tuple[int, int]
    params: int
    flops: int
    settings: Settings
    sides: tuple[Side, ...]
    difference: float | None
    machine: Machine
    versions: Versions
    allocator: dict[str, str]
    commit: str | None
    date: str
    command: str


def append_result(path: Path, result: Result) -> None:
    """Adds one line to the file, in a single write: a disk that runs full leaves the file as it was."""
    line = json.dumps(dataclasses.asdict(result)).encode() + b"\n"
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
    """Typed data from JSON's: dataclasses, tuples, dicts of text, unions with None, literals, and plain values."""
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
    if origin is dict and isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
        return dict(value)
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
