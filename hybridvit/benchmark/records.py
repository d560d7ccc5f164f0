"""What a benchmark writes down: a result of one model, with a side for each implementation and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

FORMAT = 2

Suite = Literal["cold_start", "inference", "training", "memory", "export", "scaling", "shared_keys", "finetune"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "amp-bf16", "amp-fp16"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
Unit = Literal["s", "MiB", "images/s", "share", "images", "tokens", "misses"]

# In which direction a figure is better; a unit in neither is a fact that has no better.
_LESS_IS_BETTER, _MORE_IS_BETTER = ("s", "MiB"), ("images/s",)
_DIGITS = 6


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
        p10, median, p90 = _rounded(np.percentile(values, [10, 50, 90]).tolist())
        return cls(median=median, p10=p10, p90=p90)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing that was measured of a side.

    Attributes:
        values: one a round, or one a process where each takes a process of its own.
        ratio: of this side's values and ours in the same round, always so that above 1 ours is better: theirs over ours
            in s and MiB, ours over theirs in images/s. None for ours, and for shares, images and tokens.
    """

    unit: Unit
    values: tuple[float, ...]
    spread: Spread
    ratio: Spread | None = None

    @classmethod
    def of(cls, unit: Unit, values: Sequence[float], ours: Figure | None = None) -> Figure:
        """A figure from its values; `ours` is our side's figure of the same rounds, None for our side itself."""
        ratio = None
        if ours is not None and unit in _LESS_IS_BETTER + _MORE_IS_BETTER:
            pairs = [(theirs, mine) for theirs, mine in zip(values, ours.values, strict=True) if theirs and mine]
            less = unit in _LESS_IS_BETTER
            ratio = Spread.of([a / b if less else b / a for a, b in pairs]) if len(pairs) == len(values) else None
        return cls(unit=unit, values=_rounded(values), spread=Spread.of(values), ratio=ratio)


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How every side is run.

    Attributes:
        device: cpu, cuda, cuda:1, ... or mps.
        precision: fp32, bf16, fp16: weights and images in it; amp-: fp32 weights under autocast; tf32: fp32 with matrix
            products and convolutions that may round to TF32 (CUDA), which with fp32 they may not.
        compile: mode of torch.compile for the compiled sides; None leaves these out.
        cuda_graph: sides that are not compiled replay their work from a CUDA graph.
        threads: of a CPU, in each process.
        processes: that work side by side, each on its own images.
        rounds: how often the sides take turns, or how many processes measure each side.
        round_seconds: a round calls a side again until about this much time has passed.
        warmup: calls before the first round.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    compile: CompileMode | None = None
    cuda_graph: bool = False
    threads: int = 1
    processes: int = 1
    rounds: int = 20
    round_seconds: float = 0.25
    warmup: int = 3


@dataclass(frozen=True, kw_only=True)
class Side:
    """One implementation's share of a result.

    Attributes:
        name: "hybridvit", "timm channels_last", ...
        settings: what this side does otherwise than the others, such as {"layout": "channels_last"}.
        figures: by name, such as "latency"; empty if it failed before any was measured.
        failed: why this side has no figures, or not all of them; None if it has.
    """

    name: str
    settings: dict[str, str]
    figures: dict[str, Figure]
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as it was before the measurement; what its driver does not tell is None."""

    name: str
    memory_gib: float
    count: int
    driver: str | None
    clock_mhz: int | None
    max_clock_mhz: int | None
    power_w: float | None
    power_limit_w: float | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Hardware and its state. `load_average` is the system's over the last minute before the measurement."""

    system: str
    cpu: str
    cores: int
    instruction_sets: tuple[str, ...]
    memory_gib: float
    gpu: Gpu | None
    load_average: float


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """What the device reaches at most in the result's precision, measured in the same run.

    Attributes:
        matrix_gflops: of the best matrix product, in GFLOP/s; a multiply-add counts as two.
        copy_gbs: of a copy within the device's memory, in GB/s; read and written bytes both count.
    """

    matrix_gflops: float
    copy_gbs: float


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Of the packages that a result depends on; None for one that is not installed."""

    python: str
    torch: str
    timm: str | None
    transformers: str | None
    torchvision: str | None
    hybridvit: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One model in one setting, on one machine. The first side is ours.

    Attributes:
        model: None, like img_size, params and flops, where no model takes part (an import).
        batch: images at a time; None where each side has the one that is best for it, or where there is none.
        img_size: (height, width) in pixels.
        flops: of one image, a multiply-add counted as two.
        difference: largest difference of the outputs of ours and of a peer with equal weights, over the spread of the
            outputs; None without a peer.
        peaks: None where they were not measured.
        allocator: environment variables that steer memory allocators.
        commit: of hybridvit, ending in "-dirty" if files differed from it; None outside a checkout.
        date: ISO 8601, UTC.
    """

    format: int = FORMAT
    suite: Suite
    model: str | None
    batch: int | None
    img_size: tuple[int, int] | None
    params: int | None
    flops: int | None
    settings: Settings
    sides: tuple[Side, ...]
    difference: float | None
    peaks: Peaks | None
    machine: Machine
    versions: Versions
    allocator: dict[str, str]
    commit: str | None
    date: str
    command: str
