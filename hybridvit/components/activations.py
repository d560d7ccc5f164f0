"""Activation functions by name, and the few layers whose initialisation every component shares."""

from torch import nn

from .. import kernels
from ..kernels import ACTIVATIONS, Act, unchanged
from ..spec import SpecError, nearest


def activation(name: str | None) -> Act:
    """The activation function of that name, or none; raises SpecError for an unknown one."""
    if name is None:
        return unchanged
    if name not in ACTIVATIONS:
        raise SpecError(f"unknown activation {name!r}.{nearest(name, ACTIVATIONS)} Known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def linear(in_dim: int, out_dim: int, bias: bool = True) -> nn.Linear:
    """A linear layer with the transformer initialisation: truncated normal of deviation 0.02, bias zero."""
    layer = kernels.Linear(in_dim, out_dim, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
