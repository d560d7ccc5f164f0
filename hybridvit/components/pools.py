"""Pools: from tokens to one vector an image."""

import torch
from torch import Tensor, nn

from ..spec import Grid, Mixer, Norm, Pool, SpecError, Transition, module_of
from .activations import linear
from .attention import ScaledDotProduct, head_width
from .functions import Identity


class TokenPool(Pool):
    """The first `tokens` prefix tokens, normalised: the class token, or class and distillation token side by side."""

    norm: Norm | None = None
    tokens: int = 1

    def out_dim(self, in_dim: int) -> int:
        return self.tokens * in_dim


@module_of(TokenPool)
class TokenPoolModule(nn.Module):
    def __init__(self, spec: TokenPool, dim: int, grid: Grid) -> None:
        super().__init__()
        if grid.prefix < spec.tokens:
            raise SpecError(f"{spec.kind} reads {spec.tokens} prefix tokens, but the stages add {grid.prefix}")
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


@module_of(MeanPool)
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


@module_of(SequencePool)
class SequencePoolModule(nn.Module):
    def __init__(self, spec: SequencePool, dim: int, grid: Grid) -> None:
        super().__init__()
        self.norm = spec.norm.build(dim) if spec.norm else nn.Identity()
        self.score = linear(dim, 1)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = self.norm(tokens)
        return (self.score(tokens).softmax(dim=1).transpose(1, 2) @ tokens).squeeze(1)


class AttentionPool(Pool):
    """What one learned query gathers by attention, then a residual MLP (arXiv 1810.00825, 2106.04560).

    `norm` comes before the attention, over all tokens, and once more before the MLP. `prefix`: prefix tokens are
    gathered from too.
    """

    heads: int
    mlp: Mixer
    norm: Norm
    prefix: bool = False


@module_of(AttentionPool)
class AttentionPoolModule(nn.Module):
    def __init__(self, spec: AttentionPool, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, self.with_prefix = spec.heads, spec.prefix
        self.norm = spec.norm.build(dim)
        self.latent = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.latent, std=dim**-0.5)
        self.query = linear(dim, dim)
        self.key_value = linear(dim, 2 * dim)
        self.attend = ScaledDotProduct(head_width(spec.kind, dim, spec.heads) ** -0.5)
        self.proj = linear(dim, dim)
        self.mlp_norm = spec.norm.build(dim)
        self.mlp = spec.mlp.build(dim, Grid(1, 1))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = self.norm(tokens)
        kept = tokens if self.with_prefix else tokens[:, grid.prefix :]
        query = self.query(self.latent.expand(tokens.shape[0], -1, -1))
        pooled = self.proj(self.attend.in_heads(self.heads, query, *self.key_value(kept).chunk(2, dim=2)))
        return (pooled + self.mlp(self.mlp_norm(pooled), Grid(1, 1))).squeeze(1)
