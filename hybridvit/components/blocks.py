"""Branches and blocks: a block is a sequence of branches, and that is all the encoder knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..spec import Grid, Norm, Spec, SpecError, Transition, naming


class Branch(Spec):
    """x + scale * post_norm(mixer(norm(x))), or without the sum when `residual` is False.

    `mixer` is any transition that keeps width and grid. `layer_scale` is the initial value of a learned factor a
    channel (arXiv 2103.17239); `shortcut_scale` learns one for x too (arXiv 2110.09456).
    """

    mixer: Transition
    norm: Norm | None = None
    post_norm: Norm | None = None
    layer_scale: float | None = None
    shortcut_scale: bool = False
    residual: bool = True

    def build(self, dim: int, grid: Grid) -> BranchModule:
        return BranchModule(self, dim, grid)


class BranchModule(nn.Module):
    def __init__(self, spec: Branch, dim: int, grid: Grid) -> None:
        super().__init__()
        self.norm = spec.norm.build(dim) if spec.norm else nn.Identity()
        self.mixer = spec.mixer.build_keeping(dim, grid)
        self.post_norm = spec.post_norm.build(dim) if spec.post_norm else nn.Identity()
        self.layer_scale = None if spec.layer_scale is None else nn.Parameter(torch.full((dim,), spec.layer_scale))
        self.shortcut_scale = nn.Parameter(torch.ones(dim)) if spec.shortcut_scale else None
        self.residual = spec.residual
        self.drop_path = 0.0

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        update = self.post_norm(self.mixer(self.norm(tokens), grid))
        dropping = self.training and self.drop_path
        if self.layer_scale is not None:
            if self.residual and self.shortcut_scale is None and not dropping:
                return torch.addcmul(tokens, update, self.layer_scale)
            update = update * self.layer_scale
        if not self.residual:
            return update
        if dropping:
            update = drop_path(update, self.drop_path)
        return tokens + update if self.shortcut_scale is None else torch.addcmul(update, tokens, self.shortcut_scale)


def drop_path(update: Tensor, rate: float) -> Tensor:
    """Drops the whole update of an image with probability `rate`, keeping its expectation (arXiv 1603.09382)."""
    kept = update.new_empty(update.shape[0], 1, 1).bernoulli_(1 - rate)
    return update * (kept / (1 - rate))


class Block(Spec):
    """Branches one after another."""

    branches: tuple[Branch, ...]

    def build(self, dim: int, grid: Grid) -> BlockModule:
        return BlockModule(self, dim, grid)


class BlockModule(nn.Module):
    def __init__(self, spec: Block, dim: int, grid: Grid) -> None:
        super().__init__()
        if not spec.branches:
            raise SpecError("a block needs at least one branch")
        self.branches = nn.ModuleList()
        for index, branch in enumerate(spec.branches):
            with naming(f"branch {index}: "):
                self.branches.append(branch.build(dim, grid))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        for branch in self.branches:
            tokens = branch(tokens, grid)
        return tokens

    def set_drop_path(self, rate: float) -> None:
        """Drops each residual branch of this block, and of blocks inside it, with probability `rate` in training."""
        for part in self.modules():
            if isinstance(part, BranchModule):
                part.drop_path = rate


def recomputed(block: nn.Module, tokens: Tensor, grid: Grid) -> Tensor:
    """`block(tokens, grid)`, run again in the backward pass instead of keeping its activations (arXiv 1604.06174)."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    if torch.compiler.is_compiling():  # a compiled graph moves statistics in its forward pass alone, without contexts
        return cast("Tensor", checkpoint(block, tokens, grid, use_reentrant=False))
    return cast("Tensor", checkpoint(block, tokens, grid, use_reentrant=False, context_fn=contexts))


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms normalise as in training, but the batch moves their statistics by nothing and is not counted."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, None if (count := norm.num_batches_tracked) is None else count.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


def residual_block(
    *mixers: Transition, norm: Norm | None = None, post_norm: Norm | None = None, layer_scale: float | None = None
) -> Block:
    """A block of mixers with a shortcut each, and with equal norms and scales."""
    first = Branch(mixer=mixers[0], norm=norm, post_norm=post_norm, layer_scale=layer_scale)
    return Block(branches=tuple(first.replace(mixer=mixer) for mixer in mixers))


def transformer_block(attention: Transition, mlp: Transition, norm: Norm, layer_scale: float | None = None) -> Block:
    """The pre-norm transformer block: attention, then an MLP, each with a norm in front and a shortcut."""
    return residual_block(attention, mlp, norm=norm, layer_scale=layer_scale)
