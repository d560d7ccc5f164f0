"""Mixers that are neither attention nor convolution."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import kernels
from ..kernels import activated, two_layers, unchanged
from ..norm_kernels import normalized
from ..spec import Grid, Mixer, Norm, SpecError, Transition, Widening, module_of
from ..tokens import join_prefix, split_prefix
from .activations import activation, linear


class Mlp(Mixer):
    """Two linear layers with an activation between them, on each token by itself.

    `norm` is between the activation and the second layer (arXiv 2110.09456).
    """

    hidden: int
    act: str = "gelu"
    norm: Norm | None = None


@module_of(Mlp)
class MlpModule(nn.Module):
    def __init__(self, spec: Mlp, dim: int, grid: Grid) -> None:
        super().__init__()
        self.fc1 = linear(dim, spec.hidden)
        self.act = activation(spec.act)
        self.norm = spec.norm.build(spec.hidden) if spec.norm else nn.Identity()
        self.fc2 = linear(spec.hidden, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return two_layers(self.fc1, self.act, self.norm, self.fc2, tokens)


class Linear(Widening):
    """One linear layer on each token by itself, then an optional norm and activation."""

    bias: bool = True
    norm: Norm | None = None
    act: str | None = None


@module_of(Linear)
class LinearModule(nn.Module):
    def __init__(self, spec: Linear, in_dim: int, grid: Grid) -> None:
        super().__init__()
        self.linear = linear(in_dim, spec.dim, spec.bias)
        self.norm = spec.norm.build(spec.dim) if spec.norm else nn.Identity()
        acts = unchanged, activation(spec.act)
        self.linear_act, self.act = acts if spec.norm else reversed(acts)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return normalized(self.linear, self.linear_act, self.norm, self.act, tokens)


class GatedMlp(Mixer):
    """A linear layer of the tokens, gated by the activation of another, then a third (arXiv 2002.05202).

    `norm` is between the gate and the third layer.
    """

    hidden: int
    act: str = "silu"
    norm: Norm | None = None
    bias: bool = True


@module_of(GatedMlp)
class GatedMlpModule(nn.Module):
    def __init__(self, spec: GatedMlp, dim: int, grid: Grid) -> None:
        super().__init__()
        self.gate, self.value = (linear(dim, spec.hidden, spec.bias) for _ in range(2))
        self.act = activation(spec.act)
        self.norm = spec.norm.build(spec.hidden) if spec.norm else nn.Identity()
        self.proj = linear(spec.hidden, dim, spec.bias)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return self.proj(self.norm(activated(self.gate, self.act, tokens) * self.value(tokens)))


class SqueezeExcite(Mixer):
    """Scales each channel by a gate computed from the mean over the map (arXiv 1709.01507)."""

    hidden: int
    act: str = "relu"
    gate: str = "sigmoid"
    bias: bool = True


@module_of(SqueezeExcite, prefix=False)
class SqueezeExciteModule(nn.Module):
    def __init__(self, spec: SqueezeExcite, dim: int, grid: Grid) -> None:
        super().__init__()
        self.reduce = kernels.Linear(dim, spec.hidden, bias=spec.bias)
        self.act = activation(spec.act)
        self.expand = kernels.Linear(spec.hidden, dim, bias=spec.bias)
        self.gate = activation(spec.gate)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        hidden = activated(self.reduce, self.act, tokens.mean(dim=1, keepdim=True))
        return tokens * activated(self.expand, self.gate, hidden)


class EfficientChannelAttention(Mixer):
    """Scales each channel by a gate computed from the means of its neighbours among the channels (arXiv 1910.03151)."""


@module_of(EfficientChannelAttention, prefix=False)
class EfficientChannelModule(nn.Module):
    def __init__(self, spec: EfficientChannelAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        kernel = max(3, int((math.log2(dim) + 1) / 2) // 2 * 2 + 1)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return tokens * self.conv(tokens.mean(dim=1, keepdim=True)).sigmoid()


class OnPrefix(Mixer):
    """A mixer of the prefix tokens alone; the others pass by."""

    mixer: Transition


@module_of(OnPrefix)
class OnPrefixModule(nn.Module):
    def __init__(self, spec: OnPrefix, dim: int, grid: Grid) -> None:
        super().__init__()
        if not grid.prefix:
            raise SpecError(f"{spec.kind}: there are no prefix tokens; a stage adds them with prefix=")
        self.mixer = spec.mixer.build(dim, Grid(0, 0, grid.prefix))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        prefix, others = split_prefix(tokens, grid)
        return join_prefix(self.mixer(prefix, Grid(0, 0, grid.prefix)), others)


class BehindPrefix(Mixer):
    """A mixer of the tokens behind the prefix, whose own update is 0."""

    mixer: Transition


@module_of(BehindPrefix)
class BehindPrefixModule(nn.Module):
    def __init__(self, spec: BehindPrefix, dim: int, grid: Grid) -> None:
        super().__init__()
        self.mixer = spec.mixer.build(dim, Grid(*grid.size))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return F.pad(self.mixer(tokens[:, grid.prefix :].contiguous(), Grid(*grid.size)), (0, 0, grid.prefix, 0))


class LayerScale(Mixer):
    """A learned factor a channel (arXiv 2103.17239) among steps; a branch has one of its own."""

    initial: float


@module_of(LayerScale)
class LayerScaleModule(nn.Module):
    def __init__(self, spec: LayerScale, dim: int, grid: Grid) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), spec.initial))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return tokens * self.gamma
