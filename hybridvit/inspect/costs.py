"""Parameters and floating point operations, from the spec alone: nothing is allocated and nothing is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..components.blocks import Block
from ..encoder import Model, Stage, StageModule
from ..meta import without_memory
from ..spec import Grid


class Cost(NamedTuple):
    """Number of learned values, and operations of one image: a multiply-add is two."""

    params: int
    flops: int

    def __add__(self, other: tuple[Any, ...]) -> Cost:
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


def params(model: Model) -> int:
    """Number of learned values."""
    return cost(model).params


def flops(model: Model, img_size: tuple[int, int] | None = None) -> int:
    """Operations of the matrix products, attention and convolutions of one image, a multiply-add counted as two.

    `img_size` is (height, width) in pixels, by default the one that the model is built for.
    """
    return cost(model, img_size).flops


def cost(model: Model, img_size: tuple[int, int] | None = None) -> Cost:
    """What the whole model costs."""
    return functools.reduce(Cost.__add__, layer_costs(model, img_size).values())


def layer_costs(model: Model, img_size: tuple[int, int] | None = None) -> dict[str, Cost]:
    """What each of the layers that `Encoder.layers` names costs."""
    layers: dict[str, Cost] = {}
    dim, built, grid = model.in_chans, Grid(*model.img_size), Grid(*(img_size or model.img_size))
    for index, stage in enumerate(model.stages):
        layers[f"stages.{index}"] = _entrance_cost(stage.replace(blocks=()), dim, built, grid)
        dim, built, grid = stage.enter.out_dim(dim), stage.out_grid(built), stage.out_grid(grid)
        for number, block in enumerate(stage.blocks):
            layers[f"stages.{index}.blocks.{number}"] = _block_cost(block, dim, built, grid)
    tokens = torch.empty(1, grid.tokens, dim, device="meta")
    width = model.pool.out_dim(dim)
    pool = _cost(lambda: model.pool.build(dim, built), tokens, grid)
    head = _cost(lambda: model.build_head(width), tokens.new_empty(1, width))
    return layers | {"head": pool + head}


# Blocks repeat, and so do the blocks of one model in others.
@functools.cache
def _block_cost(block: Block, dim: int, built: Grid, grid: Grid) -> Cost:
    return _cost(lambda: block.build(dim, built), torch.empty(1, grid.tokens, dim, device="meta"), grid)


@functools.cache
def _entrance_cost(stage: Stage, dim: int, built: Grid, grid: Grid) -> Cost:
    return _cost(lambda: StageModule(stage, dim, built), torch.empty(1, grid.tokens, dim, device="meta"), grid)


def _cost(build: Callable[[], nn.Module], tokens: Tensor, *grid: Grid) -> Cost:
    # On the meta device attention is counted as its two matrix products; a fused kernel may go uncounted.
    with without_memory():
        module = build().eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(tokens, *grid)
    return Cost(sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops())
