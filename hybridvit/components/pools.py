"""Pools: from tokens to one vector an image."""

from __future__ import annotations

from torch import Tensor, nn

from ..spec import Grid, Norm, Pool, SpecError, Transition
from .activations import linear
from .transitions import Identity


class TokenPool(Pool):
    """The first `tokens` prefix tokens, normalised: the class token, or class and distillation token side by side."""

    norm: Norm | None = None
    tokens: int = 1

    def out_dim(self, in_dim: int) -> int:
        return self.tokens * in_dim

    def build(self, dim: int, grid: Grid) -> nn.Module:
        if grid.prefix < self.tokens:
            raise SpecError(f"{self.kind} reads {self.tokens} prefix tokens, but the stages add {grid.prefix}")
        return TokenPoolModule(self, dim)


class TokenPoolModule(nn.Module):
    def __init__(self, spec: TokenPool, dim: int) -> None:
        super().__init__()
        self.tokens = spec.tokens
        self.norm = spec.norm.build(dim) if spec.norm else nn.Identity()

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return self.norm(tokens[:, : self.tokens]).flatten(1)


class MeanPool(Pool):
    """The mean over the grid tokens, prefix left out, with a norm before or after it.

    `before` is what comes between the last stage and the mean, such as EfficientNet's last convolution; `after` what
    comes between the mean and the classifier, on a grid of 1 x 1.
    """

    before: Transition = Identity()
    norm: Norm | None = None
    post_norm: Norm | None = None
    after: Transition = Identity()

    def out_dim(self, in_dim: int) -> int:
        return self.after.out_dim(self.before.out_dim(in_dim))

    def build(self, dim: int, grid: Grid) -> nn.Module:
        return MeanPoolModule(self, dim, grid)


class MeanPoolModule(nn.Module):
    def __init__(self, spec: MeanPool, dim: int, grid: Grid) -> None:
        super().__init__()
        self.before = spec.before.build(dim, grid)
        dim = spec.before.out_dim(dim)
        self.norm = spec.norm.build(dim) if spec.norm else nn.Identity()
        self.post_norm = spec.post_norm.build(dim) if spec.post_norm else nn.Identity()
        self.after = spec.after.build(dim, Grid(1, 1))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = self.norm(self.before(tokens, grid))
        mean = self.post_norm(tokens[:, grid.prefix :].mean(dim=1, keepdim=True))
        return self.after(mean, Grid(1, 1)).squeeze(1)


class SequencePool(Pool):
    """A mean weighted by a learned, softmaxed score a token (arXiv 2104.05704)."""

    norm: Norm | None = None

    def build(self, dim: int, grid: Grid) -> nn.Module:
        return SequencePoolModule(self, dim)


class SequencePoolModule(nn.Module):
    def __init__(self, spec: SequencePool, dim: int) -> None:
        super().__init__()
        self.norm = spec.norm.build(dim) if spec.norm else nn.Identity()
        self.score = linear(dim, 1)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = self.norm(tokens)
        weights = self.score(tokens).softmax(dim=1)
        return (weights.transpose(1, 2) @ tokens).squeeze(1)
