"""Weights in another precision, rounded so that the model's answers stay."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..encoder import Encoder
from ..kernels import Conv2d, Linear, adds_single


@torch.no_grad()
def converted(model: Encoder, dtype: torch.dtype) -> Encoder:
    """The model itself, with weights of a dtype.

    In bfloat16 on a CPU, biases of linear layers and convolutions stay in float32 where oneDNN adds them so: they are
    few, and folded norms leave large ones whose rounding shows.
    """
    narrower = torch.finfo(dtype).bits < torch.finfo(next(model.parameters()).dtype).bits
    single: list[tuple[nn.Module, Tensor]] = []
    for module in model.modules():
        if narrower and isinstance(module, nn.Conv2d) and math.prod(module.kernel_size) > 1:
            module.weight.copy_(with_same_sums(module.weight, dtype))
        if type(module) in (Linear, Conv2d) and isinstance(module.bias, nn.Parameter):
            bias = module.bias.data
            if bias.dtype == torch.float32 and bias.device.type == "cpu" and adds_single(dtype):
                single.append((module, bias))
    model.to(dtype)
    for module, bias in single:
        module.bias = nn.Parameter(bias, False)
    return model


def with_same_sums(filters: Tensor, dtype: torch.dtype) -> Tensor:
    """Filters (D, C, h, w), rounded so that each still adds up to what it did.

    What one tap loses the next one gets, from the largest to the smallest. Neighbours in a map are much alike, so of
    errors of single taps their sum is what shows: with each tap rounded by itself, depthwise convolutions lose most of
    what a model loses in bfloat16.
    """
    taps = filters.flatten(2).double()
    order = taps.abs().argsort(dim=2, descending=True)
    ordered = taps.gather(2, order)
    lost = torch.zeros_like(ordered[..., 0])
    for place in range(ordered.shape[2]):
        wanted = ordered[..., place] + lost
        ordered[..., place] = wanted.to(dtype)
        lost = wanted - ordered[..., place]
    return torch.empty_like(taps).scatter(2, order, ordered).view_as(filters).to(filters.dtype)
