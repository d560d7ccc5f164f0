"""Batch norm and group norm of tokens (B, N, C), alone, behind a layer, and with an activation behind them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .kernels import RECOMPUTED, Act, Conv2d, Linear, activated, heard, plain, trains, unchanged
from .training_kernels import ActedBatchNorm, GroupNorm, as_map, as_tokens


@functools.cache
def _number(value: float) -> Tensor:
    """A tensor of one number: cheaper to add to another than the number."""
    with torch.inference_mode(False):
        return torch.tensor(value)


def _scale_and_shift(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The factor and the shift a channel that a batch norm is in eval mode."""
    scale = norm.weight * (variance + _number(norm.eps)).rsqrt_()
    return scale, torch.addcmul(norm.bias, mean, scale, value=-1)


def batch_norm(layer: nn.BatchNorm2d, tokens: Tensor) -> Tensor:
    """What the layer makes of tokens (B, N, C), contiguous; in eval mode by one multiplication and addition.

    By torch's own kernel on a GPU, in half precision, for training and for whoever follows: it sees a map of height N
    in channels_last memory, for which there is no copy.
    """
    mean, variance = layer.running_mean, layer.running_var
    single = tokens.dtype == layer.weight.dtype == torch.float32
    if layer.training or mean is None or variance is None or not single or not plain(tokens):
        return as_tokens(nn.BatchNorm2d.forward(layer, as_map(tokens)))
    scale, shift = _scale_and_shift(layer, mean, variance)
    return torch.addcmul(shift, tokens, scale)


def normalized(
    layer: nn.Module, layer_act: Act, norm: nn.Module, act: Act, input: Tensor, view: Act = unchanged
) -> Tensor:
    """act(norm(view(layer_act(layer(input))))): a view of what the layer gives has its channels last.

    A batch norm in eval mode is computed in the weights of the layer, where these are fewer than its results.
    """
    result = _with_batch_norm(layer, norm, act, input) if isinstance(norm, nn.BatchNorm2d) else None
    return activated(norm, act, view(activated(layer, layer_act, input))) if result is None else view(result)


def _with_batch_norm(layer: nn.Module, norm: nn.BatchNorm2d, act: Act, input: Tensor) -> Tensor | None:
    """act(norm(layer(input))) in one kernel; None where there is none, or somebody listens, follows or trains."""
    mean, variance = norm.running_mean, norm.running_var
    own = type(layer) in (Linear, Conv2d) and "fused" in vars(type(norm))  # not subclasses, with a forward of their own
    if not own or norm.training or mean is None or variance is None:
        return None
    assert isinstance(layer, Linear | Conv2d)
    weight, bias = layer.weight, layer.bias
    if not plain(norm.weight, norm.bias) or not layer.has_kernel(input, weight, bias, act):  # first: see `plain`
        return None
    many = weight.numel() > layer.uses(input) * weight.shape[0]
    if many or norm.weight.dtype != weight.dtype or heard(layer) or heard(norm):
        return None
    scale, shift = _scale_and_shift(norm, mean if bias is None else mean - bias, variance)
    return layer.multiply(input, weight * scale.view(-1, *[1] * (weight.ndim - 1)), shift, act)


def acted_batch_norm(layer: nn.BatchNorm2d, tokens: Tensor, act: Act) -> Tensor | None:
    """act of what the layer makes of tokens (B, N, C) in training; None where torch's own kernels are to do it."""
    ours = layer.training and layer.momentum is not None and act in RECOMPUTED
    if not ours or not trains(tokens, layer.weight, layer.bias) or tokens.shape[:-1].numel() == 1:
        return None
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    running = layer.running_mean, layer.running_var
    return ActedBatchNorm.apply(  # pyright: ignore[reportReturnType]
        tokens, layer.weight, layer.bias, running, layer.momentum, layer.eps, RECOMPUTED[act]
    )


def group_norm(layer: nn.GroupNorm, tokens: Tensor) -> Tensor:
    """What the layer makes of tokens (B, N, C), contiguous. Of half precision, training has a faster backward pass."""
    if tokens.dtype.itemsize < 4 and layer.weight is not None and trains(tokens, layer.weight):
        return GroupNorm.apply(tokens, layer.weight, layer.bias, layer.num_groups, layer.eps)  # pyright: ignore
    return as_tokens(nn.GroupNorm.forward(layer, as_map(tokens)))
