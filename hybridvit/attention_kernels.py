"""Softmax attention: torch's fused kernel, or plain products where these are faster or there is no kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from . import kernels

FEW_KEYS = 64  # a window's: their scores grow as the map does
MOST_KEYS_TRAINED = 256  # in half precision
SCORES_TOGETHER, SCORES_IN_CACHE = 2**20, 2**18  # of windows: 4 and 1 MiB in single precision
MOST_SCORES = 2**22  # at once, where they are written down: 16 MiB in single precision


def by_queries(
    attend: Callable[[Tensor, Tensor | None], Tensor], query: Tensor, key: Tensor, bias: Tensor | None
) -> Tensor:
    """attend(query, bias), on a CPU by as many queries at a time as have at most `MOST_SCORES` scores with the keys.

    For attention whose scores no kernel keeps to itself: queries (B, heads, N, d), keys (B, heads, M, d), bias
    (1 or B, 1 or heads, N, M).
    """
    if not kernels.plain(query, key):
        return attend(query, bias)
    count = max(1, MOST_SCORES // (query.shape[0] * query.shape[1] * key.shape[2]))
    if count >= query.shape[2]:
        return attend(query, bias)
    queries = query.split(count, dim=2)
    biases = [None] * len(queries) if bias is None else bias.split(count, dim=2)
    return torch.cat([attend(*part) for part in zip(queries, biases, strict=True)], dim=2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale * q k^T + bias) v: queries (B, heads, N, d), keys (B, heads, M, d), values (B, heads, M, e).

    torch's fused kernel. On a CPU two plain products are faster where keys are few, and where values are wider than
    keys, for which it has no kernel; in half precision for any, but scores would be rounded before their softmax: a
    DINOv2 was then half as far again from single precision.
    """
    if _trains_by_products(query, key, value, bias):
        return _products(query, key, value, bias, scale)
    own = kernels.plain(query, key, value)
    few = own and query.dtype == torch.float32 and key.shape[2] <= FEW_KEYS
    if not own or (query.shape[3] == value.shape[3] and not few):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    if few:
        return _by_windows(query, key, value, bias, scale)
    return by_queries(lambda query, bias: _products(query, key, value, bias, scale), query, key, bias)


def _trains_by_products(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> bool:
    """Whether training on a CPU is faster by products, which keep the softmax for the backward pass.

    torch's fused kernel has no gradient of a bias, and its way round that makes more passes over the scores. Its
    backward pass in half precision is up to six times as slow, and there rounded scores change no more than the rest
    of the rounding does, so it is left for as many keys as would fill the memory.
    """
    tensors = (query, key, value) if bias is None else (query, key, value, bias)
    if not kernels.differentiated(*tensors):  # first: see `plain`
        return False
    few = FEW_KEYS if query.dtype == torch.float32 else MOST_KEYS_TRAINED
    return key.shape[2] <= few or query.shape[3] != value.shape[3] or (bias is not None and bias.requires_grad)


def _products(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    scores = (query * scale) @ key.transpose(2, 3)
    return (scores if bias is None else scores.add_(bias)).softmax(dim=-1) @ value


def _by_windows(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """The same, of many windows by as many at a time as have scores that stay in a cache."""
    of_window = query.shape[1] * query.shape[2] * key.shape[2]
    if query.shape[0] * of_window <= SCORES_TOGETHER:
        return _products(query, key, value, bias, scale)
    count = max(1, SCORES_IN_CACHE // of_window)
    parts = list(zip(query.split(count), key.split(count), value.split(count), strict=True))
    own = bias is not None and bias.shape[0] > 1
    biases = bias.split(count) if bias is not None and own else [bias] * len(parts)
    return torch.cat([_products(*part, bias, scale) for part, bias in zip(parts, biases, strict=True)])
