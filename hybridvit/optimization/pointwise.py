"""Convolutions of single positions as the linear layers that they are, which need no map."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..components.convs import Conv
from ..components.mixers import Linear
from ..encoder import Encoder
from ..meta import without_memory
from ..spec import Grid, Spec
from .rewrite import Part, rewritten


def with_linear_layers(model: Encoder) -> Encoder:
    """A copy in eval mode whose convolutions of 1 x 1, at stride 1 and without groups, are linear layers."""
    return rewritten(model, _as_linear)


def _as_linear(spec: Spec, module: Any) -> Part:
    if type(spec) is not Conv or (spec.kernel, spec.stride, spec.groups) != (1, 1, 1):
        return spec, module
    if spec.padding not in (None, "same", 0):  # what is around the map becomes part of it
        return spec, module
    conv, linear = module.conv, Linear(dim=spec.dim, bias=spec.bias, norm=spec.norm, act=spec.act)
    with without_memory():
        layer = linear.build(conv.in_channels, Grid(1, 1))
    layer.linear.weight = nn.Parameter(conv.weight.flatten(1), False)
    layer.linear.bias, layer.norm = conv.bias, module.norm
    return linear, layer
