"""Activation functions by name, and the few layers whose initialisation every component shares."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import SpecError, nearest


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def unchanged(x: Tensor) -> Tensor:
    """No activation."""
    return x


def activation(name: str | None) -> Callable[[Tensor], Tensor]:
    """The activation function of that name, or none; raises SpecError for an unknown one."""
    if name is None:
        return unchanged
    if name not in ACTIVATIONS:
        raise SpecError(f"unknown activation {name!r}.{nearest(name, ACTIVATIONS)} Known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def linear(in_dim: int, out_dim: int, bias: bool = True) -> nn.Linear:
    """A linear layer with the transformer initialisation: truncated normal of deviation 0.02, bias zero."""
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
