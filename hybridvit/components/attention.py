"""Softmax attention, and the one place that its weights can be read from."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import attention_kernels, kernels
from ..spec import Bias, Grid, Mixer, Norm, SpecError, Transition, module_of
from ..tokens import join_prefix
from .activations import linear
from .rotary import Rotary


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Tokens (B, N, heads * d) -> (B, heads, N, d)."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def join_heads(tokens: Tensor) -> Tensor:
    """The inverse of `split_heads`."""
    return tokens.transpose(1, 2).flatten(2)


def unit(vectors: Tensor, dim: int = -1) -> Tensor:
    """Vectors at length 1; zeros, such as keys of padding, stay zeros."""
    return F.normalize(vectors, dim=dim, eps=1e-6)  # that half precision holds


class ScaledDotProduct(nn.Module):
    """softmax(scale * q k^T + bias) v for queries (B, heads, N, d) and keys, values (B, heads, M, d).

    Every softmax attention goes through one of these, so that `attention_weights` can show any of them.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        return attention_kernels.attend(query, key, value, bias, self.scale)

    def in_heads(self, heads: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """The same for tokens (B, N, C) and (B, M, C), which are split into heads and joined again."""
        return join_heads(self(*(split_heads(part, heads) for part in (query, key, value)), bias))

    def weights(self, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
        """The softmax alone, (B, heads, N, M)."""
        scores = (query * self.scale) @ key.transpose(-2, -1)
        return (scores if bias is None else scores + bias).softmax(dim=-1)


class ChannelProduct(ScaledDotProduct):
    """The same between the channels (B, heads, d, N) of a head: maps are (B, heads, d, d), and positions have none.

    Two plain matrix products, since there are few channels: a fused kernel is the slower one.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.weights(query, key, bias) @ value


class TalkingHeads(ScaledDotProduct):
    """Heads mix their scores before the softmax, and their weights after it (arXiv 2003.02436).

    Attention maps show the softmax between the two; values are summed with mixtures of these, which can be negative.
    """

    def __init__(self, scale: float, heads: int) -> None:
        super().__init__(scale)
        self.before, self.after = (nn.Conv2d(heads, heads, 1) for _ in range(2))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        return attention_kernels.by_queries(lambda q, b: self.after(self.weights(q, key, b)) @ value, query, key, bias)

    def weights(self, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
        scores = (query * self.scale) @ key.transpose(-2, -1)
        return self.before(scores if bias is None else scores + bias).softmax(dim=-1)


def attention_weights(model: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """The weights of every attention in `model` while `run` executes: module name -> (B, heads, queries, keys)."""
    maps: dict[str, Tensor] = {}

    def watch(name: str, attend: ScaledDotProduct) -> torch.utils.hooks.RemovableHandle:
        def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            query, key, _, *bias = inputs
            maps[name] = attend.weights(query, key, *bias).detach()

        return attend.register_forward_pre_hook(record)

    attends = ((name, module) for name, module in model.named_modules() if isinstance(module, ScaledDotProduct))
    handles = [watch(name.removesuffix(".attend"), attend) for name, attend in attends]
    try:
        with torch.compiler.set_stance("force_eager"):  # a compiled model would not call the hooks
            run()
    finally:
        for handle in handles:
            handle.remove()
    return maps


def head_width(part: str, dim: int, heads: int) -> int:
    """Channels of one head; raises SpecError if `heads` do not divide `dim`."""
    if dim % heads:
        raise SpecError(f"{part}: {heads} heads do not divide width {dim}")
    return dim // heads


class Attention(Mixer):
    """Multi-head self-attention (arXiv 1706.03762) over all tokens, prefix included.

    `qk_norm` normalises every head's queries and keys (arXiv 2302.05442); `bias` adds relative positions to the scores;
    `norm` is between the heads and the last layer (arXiv 2210.06423). Without `key_bias` keys alone have none.
    """

    heads: int
    qkv_bias: bool = True
    qk_norm: Norm | None = None
    bias: Bias | None = None
    key_bias: bool = True
    norm: Norm | None = None
    proj_bias: bool = True


class RotaryAttention(Attention):
    """Attention whose queries and keys are turned by their position."""

    rotary: Rotary

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        module = super().build(in_dim, grid)
        module.rotary = self.rotary.build(self.heads, in_dim // self.heads)
        return module


class KeylessBias(nn.Module):
    """The linear layer to queries, keys and values, with a bias (2 * dim) of queries and values alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = linear(dim, 3 * dim, bias=False).weight
        self.bias = nn.Parameter(torch.zeros(2 * dim))

    def forward(self, tokens: Tensor) -> Tensor:
        query, value = self.bias.chunk(2)
        return kernels.linear(tokens, self.weight, torch.cat([query, torch.zeros_like(query), value]))


@module_of(Attention)
class AttentionModule(nn.Module):
    def __init__(self, spec: Attention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, width = spec.heads, head_width(spec.kind, dim, spec.heads)
        keyless = spec.qkv_bias and not spec.key_bias
        self.qkv = KeylessBias(dim) if keyless else linear(dim, 3 * dim, bias=spec.qkv_bias)
        self.q_norm, self.k_norm = (spec.qk_norm.build(width) if spec.qk_norm else nn.Identity() for _ in range(2))
        self.rotary: nn.Module | None = None
        self.bias = spec.bias.build(spec.heads, grid) if spec.bias else None
        self.attend = ScaledDotProduct(width**-0.5)
        self.norm = spec.norm.build(dim) if spec.norm else nn.Identity()
        self.proj = linear(dim, dim, bias=spec.proj_bias)

    def forward(self, tokens: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """`mask` (M, 1, N, N) is added to the scores; M divides the batch, of which mask i is for every M-th from i."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in (self.q_norm(query), self.k_norm(key), value))
        if self.rotary is not None:
            query, key = self.rotary(query, key, grid)
        mixed = self.attend(query, key, value, biases(self.bias, grid, mask, tokens.shape[0]))
        return self.proj(self.norm(join_heads(mixed)))


def biases(bias: nn.Module | None, grid: Grid, mask: Tensor | None, batch: int) -> Tensor | None:
    """What is added to the scores of a batch: a bias (1, heads, N, N) on the grid, and a mask repeated to the batch."""
    # Fused kernels take a bias of four dimensions only.
    values = None if bias is None else bias(grid).unsqueeze(0)
    if mask is None:
        return values
    return (mask if values is None else values + mask).repeat(batch // mask.shape[0], 1, 1, 1)


class ClassAttention(Mixer):
    """What the one prefix token gathers from all tokens (arXiv 2103.17239); the others pass by."""

    heads: int


@module_of(ClassAttention)
class ClassAttentionModule(nn.Module):
    def __init__(self, spec: ClassAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        if grid.prefix != 1:
            raise SpecError(f"{spec.kind} is for one prefix token, not for {grid.prefix}")
        self.heads = spec.heads
        self.query, self.key, self.value = (linear(dim, dim) for _ in range(3))
        self.attend = ScaledDotProduct(head_width(spec.kind, dim, spec.heads) ** -0.5)
        self.proj = linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        mixed = self.attend.in_heads(self.heads, self.query(tokens[:, :1]), self.key(tokens), self.value(tokens))
        return join_prefix(self.proj(mixed), tokens[:, 1:])


class CosineAttention(Mixer):
    """Self-attention by the cosine of queries and keys, times a learned factor a head (arXiv 2111.09883)."""

    heads: int
    key_bias: bool = True
    bias: Bias | None = None


@module_of(CosineAttention)
class CosineAttentionModule(nn.Module):
    largest_factor = 100.0

    def __init__(self, spec: CosineAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        head_width(spec.kind, dim, spec.heads)
        self.heads = spec.heads
        self.query, self.key, self.value = (linear(dim, dim, bias) for bias in (True, spec.key_bias, True))
        self.log_factor = nn.Parameter(torch.full((spec.heads, 1, 1), math.log(10.0)))
        self.bias = spec.bias.build(spec.heads, grid) if spec.bias else None
        self.attend = ScaledDotProduct(1.0)
        self.proj = linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """`mask` as in AttentionModule."""
        query, key, value = (split_heads(layer(tokens), self.heads) for layer in (self.query, self.key, self.value))
        factor = self.log_factor.clamp(max=math.log(self.largest_factor)).exp()
        query, key = factor * unit(query), unit(key)
        return self.proj(join_heads(self.attend(query, key, value, biases(self.bias, grid, mask, tokens.shape[0]))))


class ReducedAttention(Mixer):
    """Attention whose keys and values come from fewer positions than its queries (arXiv 2102.12122).

    `reduce` takes the tokens to those that become keys and values, and may have a norm at its end.
    """

    heads: int
    reduce: Transition
    qkv_bias: bool = True


@module_of(ReducedAttention)
class ReducedAttentionModule(nn.Module):
    def __init__(self, spec: ReducedAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, width = spec.heads, head_width(spec.kind, dim, spec.heads)
        self.reduce = spec.reduce.build(dim, grid)
        self.query = linear(dim, dim, bias=spec.qkv_bias)
        self.key_value = linear(spec.reduce.out_dim(dim), 2 * dim, bias=spec.qkv_bias)
        self.attend = ScaledDotProduct(width**-0.5)
        self.proj = linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        key, value = self.key_value(self.reduce(tokens, grid)).chunk(2, dim=2)
        return self.proj(self.attend.in_heads(self.heads, self.query(tokens), key, value))
