"""What tests of kernels compare them with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hybridvit import kernels

has_kernels = pytest.mark.skipif(not kernels._dtypes(), reason="this torch has no oneDNN")


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    return torch.allclose(actual, expected, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


def torchs(layer: nn.Module, input: Tensor) -> Tensor:
    """What torch's own layer makes of the input."""
    return (nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d).forward(layer, input)  # pyright: ignore
