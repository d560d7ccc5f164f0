"""Attention whose queries, keys, values and outputs differ in width, above all as in LeViT (arXiv 2104.01136)."""

from torch import Tensor, nn

from ..spec import Bias, Grid, Halving, Mixer, Norm, Widening, module_of
from ..tokens import every
from .activations import activation, linear
from .attention import Attention, AttentionModule, ScaledDotProduct, biases, join_heads, split_heads
from .biases import DistanceBias
from .mixers import Linear


class NarrowAttention(Mixer):
    """Self-attention with narrow queries and keys, of `key_dim` channels a head, and values of `value_dim`.

    `norm` is behind both linear layers, and then they have no bias; `act` is in front of the second.
    """

    heads: int
    key_dim: int
    value_dim: int
    bias: Bias | None = None
    norm: Norm | None = None
    act: str | None = None


@module_of(NarrowAttention)
class NarrowAttentionModule(nn.Module):
    def __init__(self, spec: NarrowAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, self.widths = spec.heads, [spec.key_dim, spec.key_dim, spec.value_dim]
        first = Linear(dim=spec.heads * sum(self.widths), bias=spec.norm is None, norm=spec.norm)
        self.qkv = first.build(dim, grid)
        self.bias = spec.bias.build(spec.heads, grid) if spec.bias else None
        self.attend = ScaledDotProduct(spec.key_dim**-0.5)
        self.act = activation(spec.act)
        self.proj = first.replace(dim=dim).build(spec.heads * spec.value_dim, grid)

    def forward(self, tokens: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """`mask` as in AttentionModule."""
        heads = split_heads(self.qkv(tokens, grid), self.heads).split(self.widths, dim=3)
        mixed = self.attend(*heads, biases(self.bias, grid, mask, tokens.shape[0]))
        return self.proj(self.act(join_heads(mixed)), grid)


class ShrinkingAttention(Halving):
    """Every second position along both axes asks all positions, which gives a map of half the height and width."""

    heads: int
    key_dim: int
    value_dim: int
    act: str
    norm: Norm | None


@module_of(ShrinkingAttention, prefix=False)
class ShrinkingAttentionModule(nn.Module):
    def __init__(self, spec: ShrinkingAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.spec, self.heads = spec, spec.heads
        layer = Linear(dim=spec.heads * spec.key_dim, bias=spec.norm is None, norm=spec.norm)
        self.query = layer.build(dim, grid)
        self.key_value = layer.replace(dim=spec.heads * (spec.key_dim + spec.value_dim)).build(dim, grid)
        self.bias = DistanceBias().build(spec.heads, grid)
        self.attend = ScaledDotProduct(spec.key_dim**-0.5)
        self.act = activation(spec.act)
        self.proj = layer.replace(dim=spec.dim).build(spec.heads * spec.value_dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        spec, parts = self.spec, (self.query(every(tokens, grid, 2), grid), self.key_value(tokens, grid))
        query, both = (split_heads(part, self.heads) for part in parts)
        bias = self.bias(grid, step=2).unsqueeze(0)
        mixed = self.attend(query, *both.split([spec.key_dim, spec.value_dim], dim=3), bias)
        return self.proj(self.act(join_heads(mixed)), grid)


class WideningAttention(Widening):
    """Self-attention from any width to `dim` channels, with queries, keys and values of `inner` channels in all."""

    inner: int
    heads: int
    bias: Bias | None = None

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        module = AttentionModule(Attention(heads=self.heads, bias=self.bias), self.inner, grid)
        module.qkv, module.proj = linear(in_dim, 3 * self.inner), linear(self.inner, self.dim)
        return module
