"""Softmax attention, and the one place that its weights can be read from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Bias, Grid, Mixer, Norm, SpecError, Transition
from .activations import linear


class ScaledDotProduct(nn.Module):
    """softmax(scale * q k^T + bias) v for queries (B, heads, N, d) and keys, values (B, heads, M, d).

    Every softmax attention goes through one of these, so that `attention_weights` can show any of them.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scale)

    def weights(self, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
        """The softmax alone, (B, heads, N, M)."""
        scores = (query * self.scale) @ key.transpose(-2, -1)
        return (scores if bias is None else scores + bias).softmax(dim=-1)


def attention_weights(model: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """The weights of every attention in `model` while `run` executes: module name -> (B, heads, queries, keys)."""
    maps: dict[str, Tensor] = {}

    def watch(name: str, attend: ScaledDotProduct) -> torch.utils.hooks.RemovableHandle:
        def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            query, key, _, *bias = inputs
            maps[name] = attend.weights(query, key, *bias).detach()

        return attend.register_forward_pre_hook(record)

    handles = [
        watch(name.removesuffix(".attend"), module)
        for name, module in model.named_modules()
        if isinstance(module, ScaledDotProduct)
    ]
    try:
        with torch.compiler.set_stance("force_eager"):  # a compiled model would not call the hooks
            run()
    finally:
        for handle in handles:
            handle.remove()
    return maps


def head_width(part: str, dim: int, heads: int) -> int:
    """Channels of one head; raises SpecError if `heads` do not divide `dim`."""
    if heads < 1 or dim % heads:
        raise SpecError(f"{part}: {heads} heads do not divide width {dim}")
    return dim // heads


class Attention(Mixer):
    """Multi-head self-attention (arXiv 1706.03762) over all tokens, prefix included.

    `qk_norm` normalises every head's queries and keys (arXiv 2302.05442); `bias` adds relative positions to the scores.
    """

    heads: int
    qkv_bias: bool = True
    qk_norm: Norm | None = None
    bias: Bias | None = None

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        return AttentionModule(self, in_dim, grid)


class AttentionModule(nn.Module):
    def __init__(self, spec: Attention, dim: int, grid: Grid) -> None:
        super().__init__()
        width = head_width(spec.kind, dim, spec.heads)
        self.heads = spec.heads
        self.qkv = linear(dim, 3 * dim, bias=spec.qkv_bias)
        self.q_norm = spec.qk_norm.build(width) if spec.qk_norm else nn.Identity()
        self.k_norm = spec.qk_norm.build(width) if spec.qk_norm else nn.Identity()
        self.bias = spec.bias.build(spec.heads, grid) if spec.bias else None
        self.attend = ScaledDotProduct(width**-0.5)
        self.proj = linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        # (B, N, 3 * heads * d) -> three of (B, heads, N, d)
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        # Fused kernels take a bias of four dimensions only.
        bias = None if self.bias is None else self.bias(grid).unsqueeze(0)
        mixed = self.attend(self.q_norm(query), self.k_norm(key), value, bias)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class WideningAttention(Transition):
    """Self-attention from any width to `dim` channels, with queries, keys and values of `inner` channels in all."""

    dim: int
    inner: int
    heads: int
    bias: Bias | None = None

    def out_dim(self, in_dim: int) -> int:
        return self.dim

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        module = AttentionModule(Attention(heads=self.heads, bias=self.bias), self.inner, grid)
        module.qkv, module.proj = linear(in_dim, 3 * self.inner), linear(self.inner, self.dim)
        return module
