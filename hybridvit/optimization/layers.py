"""What single layers can take in: a factor and a shift a channel, before them or behind them.

Each function changes a module and gives the spec that it then fits, or None if such a layer cannot take it in. Layers
of other files join with `@scales_output.register` and `@scales_input.register`.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..components.attention import Attention, AttentionModule, KeylessBias, ReducedAttention
from ..components.convs import Conv
from ..components.functions import Identity
from ..components.mixers import GatedMlp, LayerScale, Linear, LinearModule, Mlp
from ..components.norms import BatchNormModule
from ..components.transitions import Patchify, Steps
from ..components.windows import WindowAttention
from ..kernels import Conv2d
from ..spec import Spec


class Affine(NamedTuple):
    """x * scale + shift, in double precision, a number a channel or one for all. Without `shift` it only scales."""

    scale: Tensor
    shift: Tensor | None


def affine_of(module: nn.Module) -> Affine | None:
    """What the module does in eval mode, if that is a factor and a shift a channel."""
    if isinstance(module, BatchNormModule):
        assert module.running_mean is not None
        assert module.running_var is not None
        scale = module.weight.double() / (module.running_var.double() + module.eps).sqrt()
        return Affine(scale, module.bias.double() - module.running_mean.double() * scale)
    return None


def is_plain(spec: Spec) -> bool:
    """Whether it computes with its weight as it is: a convolution may have a layer that does not."""
    return not isinstance(spec, Conv) or spec.layer is Conv2d


def layer_of(module: Any) -> Any:
    """The linear layer or convolution of a part that has one, with perhaps a norm and an activation behind it."""
    return module.linear if isinstance(module, LinearModule) else module.conv


@singledispatch
def scales_output(spec: Spec, module: Any, affine: Affine) -> Spec | None:
    """The layer, followed by the affine map."""
    return None


@singledispatch
def scales_input(spec: Spec, module: Any, affine: Affine) -> Spec | None:
    """The affine map, followed by the layer."""
    return None


def scale_rows(layer: Any, affine: Affine) -> None:
    """A linear layer or convolution followed by the affine map, with a bias if it shifts."""
    dtype, weight = layer.weight.dtype, layer.weight.double()
    scale, shift = affine
    layer.weight = nn.Parameter((weight * scale.view(-1, *[1] * (weight.ndim - 1))).to(dtype), False)
    if layer.bias is not None or shift is not None:
        bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.double() * scale
        layer.bias = nn.Parameter((bias if shift is None else bias + shift).to(dtype), False)


def scale_columns(layer: Any, affine: Affine) -> None:
    """The affine map followed by a linear layer or convolution without a border and groups, with a bias."""
    dtype, weight = layer.weight.dtype, layer.weight.double()
    scale, shift = affine
    layer.weight = nn.Parameter((weight * scale.view(1, -1, *[1] * (weight.ndim - 2))).to(dtype), False)
    if shift is not None:
        added = (weight.flatten(2).sum(dim=2) if weight.ndim > 2 else weight) @ shift.expand(weight.shape[1])
        layer.bias = nn.Parameter((added if layer.bias is None else layer.bias.double() + added).to(dtype), False)


@scales_output.register(Conv)
@scales_output.register(Linear)
@scales_output.register(Patchify)
def _(spec: Conv | Linear | Patchify, module: Any, affine: Affine) -> Spec | None:
    if spec.norm or getattr(spec, "act", None) or not is_plain(spec):
        return None
    scale_rows(layer_of(module), affine)
    return spec.replace(bias=layer_of(module).bias is not None)


@scales_output.register
def _(spec: Mlp, module: Any, affine: Affine) -> Spec | None:
    scale_rows(module.fc2, affine)
    return spec


@scales_output.register
def _(spec: GatedMlp, module: Any, affine: Affine) -> Spec | None:
    if affine.shift is not None and not spec.bias:
        return None
    scale_rows(module.proj, affine)
    return spec


@scales_output.register
def _(spec: Attention, module: Any, affine: Affine) -> Spec | None:
    scale_rows(module.proj, affine)
    return spec.replace(proj_bias=module.proj.bias is not None)


@scales_output.register
def _(spec: ReducedAttention, module: Any, affine: Affine) -> Spec | None:
    scale_rows(module.proj, affine)
    return spec


@scales_output.register
def _(spec: WindowAttention, module: Any, affine: Affine) -> Spec | None:
    attention = scales_output(spec.attention, module.attention, affine)
    return attention and spec.replace(attention=attention)


@scales_output.register
def _(spec: LayerScale, module: Any, affine: Affine) -> Spec | None:
    if affine.shift is not None:
        return None
    module.gamma = nn.Parameter((module.gamma.double() * affine.scale).to(module.gamma.dtype), False)
    return spec


@scales_output.register
def _(spec: Steps, module: Any, affine: Affine) -> Spec | None:
    return _one_of(spec, module, affine, scales_output, reversed(range(len(spec.steps))))


@scales_input.register
def _(spec: Conv, module: Any, affine: Affine) -> Spec | None:
    borderless = spec.padding == 0 or (spec.kernel == 1 and spec.padding in (None, "same"))
    if spec.groups > 1 or not borderless or not is_plain(spec):
        return None
    scale_columns(module.conv, affine)
    return spec.replace(bias=module.conv.bias is not None)


@scales_input.register
def _(spec: Linear, module: Any, affine: Affine) -> Spec | None:
    scale_columns(module.linear, affine)
    return spec.replace(bias=module.linear.bias is not None)


@scales_input.register
def _(spec: Mlp, module: Any, affine: Affine) -> Spec | None:
    scale_columns(module.fc1, affine)
    return spec


@scales_input.register
def _(spec: GatedMlp, module: Any, affine: Affine) -> Spec | None:
    if affine.shift is not None and not spec.bias:
        return None
    scale_columns(module.gate, affine)
    scale_columns(module.value, affine)
    return spec


@scales_input.register
def _(spec: Attention, module: AttentionModule, affine: Affine) -> Spec | None:
    if isinstance(module.qkv, KeylessBias):
        return None
    scale_columns(module.qkv, affine)
    return spec.replace(qkv_bias=module.qkv.bias is not None, key_bias=True)


@scales_input.register
def _(spec: Steps, module: Any, affine: Affine) -> Spec | None:
    return _one_of(spec, module, affine, scales_input, range(len(spec.steps)))


def _one_of(spec: Steps, module: Any, affine: Affine, scales: Any, order: Any) -> Spec | None:
    """The first step, in the order given, that does anything takes the map in, or none does."""
    for index in order:
        if spec.steps[index] != Identity():
            step = scales(spec.steps[index], module.steps[index], affine)
            return step and spec.replace(steps=(*spec.steps[:index], step, *spec.steps[index + 1 :]))
    return None
