"""The most that a device does: what measured times are held against."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .cases import dtype_of
from .records import Peaks, Settings
from .timing import Clock, clock_for

# Sides of square matrices, and bytes of a copy: too large for caches, and small enough to be quick.
_MATRICES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192), "mps": (1024, 2048, 4096)}
_COPY = {"cpu": 2**28, "cuda": 2**30, "mps": 2**28}
_REPEATS, _SECONDS = 5, 0.05


@functools.cache
def peaks(settings: Settings) -> Peaks:
    """The best matrix product of several sizes, in the precision of the settings, and a copy within memory.

    Measured once in a process.
    """
    clock = clock_for(settings.device)
    kind, dtype = torch.device(settings.device).type, dtype_of(settings.precision)
    products: list[float] = []
    for side in _MATRICES[kind]:
        a, b = (torch.randn(side, side, device=settings.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        products.append(2 * side**3 / _fastest(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), clock))
    source = torch.ones(_COPY[kind], dtype=torch.uint8, device=settings.device)
    target = torch.zeros_like(source)
    copied = 2 * source.numel() / _fastest(lambda: _copy(target, source), clock)
    return Peaks(matrix_gflops=round(max(products) / 1e9, 1), copy_gbs=round(copied / 1e9, 1))


def _copy(target: Tensor, source: Tensor) -> None:
    target.copy_(source)


def _fastest(run: object, clock: Clock) -> float:
    """Seconds of one call in the fastest of several repeats: a peak is what is possible, not what is usual."""
    assert callable(run)
    clock.seconds(run, 1)
    calls = max(1, round(_SECONDS / clock.seconds(run, 1)))
    return min(clock.seconds(run, calls) / calls for _ in range(_REPEATS))
