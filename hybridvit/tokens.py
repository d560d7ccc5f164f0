"""The residual stream: contiguous tokens (B, N, C), and the map they are a view of.

N = grid.prefix + grid.height * grid.width. Row-major contiguous tokens without a prefix are, byte for byte, the
channels_last memory of the map (B, C, H, W): going from one to the other is a view, and every convolution runs in
channels_last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .spec import Grid, fewer

__all__ = [
    "Grid",
    "every",
    "image_to_tokens",
    "join_prefix",
    "known",
    "map_to_tokens",
    "places",
    "same_size",
    "split_prefix",
    "tokens_to_map",
]


def tokens_to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """Tokens (B, N, C) without prefix -> map (B, C, H, W), a view in channels_last memory."""
    assert grid.prefix == 0, "a map has no place for prefix tokens; split them off first"
    return tokens.unflatten(1, grid.size).permute(0, 3, 1, 2)


def map_to_tokens(map_: Tensor) -> Tensor:
    """Map (B, C, H, W) -> contiguous tokens (B, H*W, C): a view if the map is channels_last, else a copy.

    Without `contiguous` an NCHW map would pass on as a strided view, and everything after it would run in NCHW.
    """
    return map_.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def known(grid: Grid) -> bool:
    """Whether height and width are numbers. In a program that is exported for any size they are symbols.

    To ask symbols anything would tie the program to the answer; there, what depends on the size is computed.
    """
    return isinstance(grid.height, int) and isinstance(grid.width, int)


def same_size(one: Grid, other: Grid) -> bool:
    """Whether two grids are known to have the same height and width."""
    return known(one) and known(other) and one.size == other.size


def every(tokens: Tensor, grid: Grid, step: int) -> Tensor:
    """Every `step`-th position along both axes, contiguous."""
    if known(grid):
        return tokens.unflatten(1, grid.size)[:, ::step, ::step].flatten(1, 2).contiguous()
    return places(tokens, grid, *(torch.arange(fewer(size, step), device=tokens.device) * step for size in grid.size))


def places(tokens: Tensor, grid: Grid, rows: Tensor, columns: Tensor) -> Tensor:
    """Where some rows and columns meet, contiguous: in a program for any size, for a slice asks how much it leaves."""
    return tokens.index_select(1, (rows[:, None] * grid.width + columns).flatten())


def split_prefix(tokens: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Tokens -> (prefix tokens (B, P, C), grid tokens (B, H*W, C))."""
    return tokens[:, : grid.prefix], tokens[:, grid.prefix :]


def join_prefix(prefix: Tensor, tokens: Tensor) -> Tensor:
    """Prefix tokens (B or 1, P, C) and grid tokens (B, N, C) -> (B, P + N, C)."""
    return torch.cat([prefix.expand(tokens.shape[0], -1, -1), tokens], dim=1)


def image_to_tokens(images: Tensor) -> tuple[Tensor, Grid]:
    """Images (B, C, H, W) -> pixels as tokens, and their grid."""
    return map_to_tokens(images), Grid(images.shape[2], images.shape[3])
