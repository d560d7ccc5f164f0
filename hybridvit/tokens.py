"""The residual stream: contiguous tokens (B, N, C), and the map they are a view of.

N = grid.prefix + grid.height * grid.width. Row-major contiguous tokens without a prefix are, byte for byte, the
channels_last memory of the map (B, C, H, W): going from one to the other is a view, and every convolution runs in
channels_last.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from . import kernels
from .spec import Grid, fewer

__all__ = [
    "Grid",
    "at_pairs",
    "every",
    "gather_windows",
    "image_to_tokens",
    "join_prefix",
    "join_windows",
    "known",
    "map_to_tokens",
    "offsets",
    "places",
    "rest",
    "roll",
    "same_size",
    "spacing",
    "split_prefix",
    "tokens_to_map",
    "windows_order",
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


def spacing(counts: Grid, window: Grid, layout: str) -> tuple[Grid, Grid]:
    """How far apart windows begin, and how far apart the positions inside one are."""
    return (window, Grid(1, 1)) if layout == "block" else (Grid(1, 1), counts)


def windows_order(grid: Grid, counts: Grid, window: Grid, apart: Grid, within: Grid, device: torch.device) -> Tensor:
    """Where the positions of all windows are among the tokens of a map, one window after another."""
    place = torch.arange(counts.tokens * window.tokens, device=device)
    number, inside = place // window.tokens, rest(place, window.tokens)
    rows = number // counts.width * apart.height + inside // window.width * within.height
    columns = rest(number, counts.width) * apart.width + rest(inside, window.width) * within.width
    return rows * grid.width + columns


def rest(numbers: Tensor, count: int) -> Tensor:
    """numbers % count, which ONNX lacks where the count is a symbol."""
    return numbers - numbers // count * count


def gather_windows(tokens: Tensor, grid: Grid, counts: Grid, window: Grid, apart: Grid, within: Grid) -> Tensor:
    """Windows, which may overlap, in a program for any size: an axis of windows asks whether it has only one."""
    order = windows_order(grid, counts, window, apart, within, tokens.device)
    return tokens.index_select(1, order).flatten(0, 1).unflatten(0, (tokens.shape[0] * counts.tokens, window.tokens))


def join_windows(
    windows: Tensor, batch: int, grid: Grid, counts: Grid, window: Grid, apart: Grid, within: Grid
) -> Tensor:
    """The inverse of `gather_windows`, where windows do not overlap."""
    order = windows_order(grid, counts, window, apart, within, windows.device)
    where = torch.zeros_like(order).scatter(0, order, torch.arange(grid.tokens, device=order.device))
    return windows.flatten(0, 1).unflatten(0, (batch, grid.tokens)).index_select(1, where)


def at_pairs(values: Tensor, grid: Grid, distances: bool = False, step: int = 1) -> Tensor:
    """Values (heads, K) by offset query - key, row by row -> by query and key (heads, M, N).

    K is (2h - 1) * (2w - 1), with offset 0 in the middle of its axis. With `distances` it is h * w, and the values are
    by the offset without its sign. Every `step`-th position along both axes is a query.
    """
    if known(grid) and grid.tokens <= kernels.MOST_KEPT and kernels.unwatched(values):
        pairs = values.gather(1, _kept_places(grid.size, distances, step).expand(values.shape[0], -1))
    else:
        pairs = values.index_select(1, pair_places(grid, distances, step, values.device))
    return pairs.unflatten(1, (asking(grid, step).tokens, grid.height * grid.width))


@functools.lru_cache(maxsize=16)
def _kept_places(size: tuple[int, int], distances: bool, step: int) -> Tensor:
    """For `gather`: on a CPU it is as fast as `index_select`, and its gradient ten times as fast."""
    with torch.inference_mode(False):  # or training could not use them later
        return pair_places(Grid(*size), distances, step, torch.device("cpu")).long()


def asking(grid: Grid, step: int) -> Grid:
    """The grid of every `step`-th position along both axes."""
    return Grid(*(fewer(size, step) for size in grid.size)) if step > 1 else Grid(*grid.size)


def pair_places(grid: Grid, distances: bool, step: int, device: torch.device) -> Tensor:
    """Where `at_pairs` finds its values (M * N)."""
    place = functools.partial(torch.arange, device=device, dtype=torch.int32)
    sides = zip(asking(grid, step).size, grid.size, strict=True)
    axes = (step * place(queries)[:, None] - place(size) for queries, size in sides)
    rows, columns = (axis.abs() if distances else axis + axis.shape[1] - 1 for axis in axes)
    width = grid.width if distances else 2 * grid.width - 1
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).flatten()


def offsets(size: int, device: torch.device) -> Tensor:
    """Query - key (size, size) on an axis."""
    position = torch.arange(size, device=device)
    return position[:, None] - position


def roll(tokens: Tensor, grid: Grid, down: int, right: int) -> Tensor:
    """A map moved by less than its size, in a program for any size; what leaves it comes back on the other side."""
    axes = zip(grid.size, (down, right), strict=True)
    wrapped = (rest(torch.arange(size, device=tokens.device) + size - moved, size) for size, moved in axes)
    return places(tokens, grid, *wrapped)


def split_prefix(tokens: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Tokens -> (prefix tokens (B, P, C), grid tokens (B, H*W, C))."""
    return tokens[:, : grid.prefix], tokens[:, grid.prefix :]


def join_prefix(prefix: Tensor, tokens: Tensor) -> Tensor:
    """Prefix tokens (B or 1, P, C) and grid tokens (B, N, C) -> (B, P + N, C)."""
    return torch.cat([prefix.expand(tokens.shape[0], -1, -1), tokens], dim=1)


def image_to_tokens(images: Tensor) -> tuple[Tensor, Grid]:
    """Images (B, C, H, W) -> pixels as tokens, and their grid."""
    return map_to_tokens(images), Grid(images.shape[2], images.shape[3])
