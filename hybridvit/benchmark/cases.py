"""What is measured and under which conditions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from ..encoder import Model
from ..registry import model_spec
from ..transfer.device import torch_device
from .records import BenchmarkError, CompileMode, Precision, Settings

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model and how it is run. `batch` None: as many images as each side is fastest with. `img_size` in pixels."""

    model: str
    batch: int | None
    img_size: tuple[int, int]
    settings: Settings

    def spec(self) -> Model:
        return model_spec(self.model).replace(img_size=self.img_size)

    def images(self) -> Tensor:
        """The same images for every side: (batch, channels, height, width), one if the batch is not settled."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.batch or 1, self.spec().in_chans, *self.img_size, generator=generator)

    def of(self, batch: int) -> Case:
        """The same with another batch."""
        return replace(self, batch=batch)


def dtype_of(precision: Precision) -> torch.dtype:
    """The type that a precision computes in where it can."""
    return DTYPES.get(precision.removeprefix("amp-"), torch.float32)


def check(case: Case) -> None:
    """Raises BenchmarkError for what cannot be run here."""
    settings = case.settings
    counts = {
        "batch": 1 if case.batch is None else case.batch,
        "img_size": min(case.img_size),
        "threads": settings.threads,
        "processes": settings.processes,
        "rounds": settings.rounds,
        "warmup": settings.warmup,
    }
    for name, value in counts.items():
        if value < 1:
            raise BenchmarkError(f"{name} must be at least 1, got {value}")
    for name, value, known in (
        ("precision", settings.precision, get_args(Precision)),
        ("compile", settings.compile, (None, *get_args(CompileMode))),
    ):
        if value not in known:
            raise BenchmarkError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
    if not (math.isfinite(settings.round_seconds) and settings.round_seconds > 0):
        raise BenchmarkError(f"round_seconds must be above 0, got {settings.round_seconds}")
    try:
        device = torch_device(settings.device)
    except ValueError as error:
        raise BenchmarkError(str(error)) from None
    if device.type != "cuda":
        if settings.precision == "tf32":
            raise BenchmarkError(f"tf32 is a precision of CUDA devices, not of {settings.device!r}: use fp32 or bf16")
        if settings.cuda_graph:
            raise BenchmarkError(f"CUDA graphs need a CUDA device, not {settings.device!r}: leave out --cuda-graph")


@contextlib.contextmanager
def configured(settings: Settings) -> Iterator[None]:
    """torch's global switches as the settings say, and afterwards as they were."""
    threads = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
