"""Attention inside windows of the map."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Grid, Mixer, SpecError, Transition, fewer, module_of
from ..tokens import gather_windows, join_windows, known, map_to_tokens, places, roll, same_size, spacing, tokens_to_map

Layout = Literal["block", "grid"]


def whole_windows(grid: Grid, window: Grid) -> Grid:
    """The smallest grid that windows cover without a rest and that `grid` fits into."""
    return Grid(*(fewer(size, side) * side for size, side in zip(grid.size, window.size, strict=True)))


def pad_map(tokens: Tensor, grid: Grid, larger: Grid) -> Tensor:
    """Zeros on the right and at the bottom, up to a larger grid."""
    if same_size(larger, grid):
        return tokens
    below, right = larger.height - grid.height, larger.width - grid.width
    return F.pad(tokens.unflatten(1, grid.size), (0, 0, 0, right, 0, below)).flatten(1, 2)


def crop_map(tokens: Tensor, grid: Grid, smaller: Grid) -> Tensor:
    """The inverse of `pad_map`; contiguous if `tokens` are."""
    if same_size(smaller, grid):
        return tokens
    if not known(grid):
        return places(tokens, grid, *(torch.arange(size, device=tokens.device) for size in smaller.size))
    kept = tokens.unflatten(1, grid.size)[:, : smaller.height, : smaller.width]
    return kept.clone(memory_format=torch.contiguous_format).flatten(1, 2)


def resize_map(tokens: Tensor, grid: Grid, new: Grid, align_corners: bool = False) -> Tensor:
    """The map, bilinear, on another grid. `align_corners`: positions in corners keep their values."""
    if same_size(new, grid):
        return tokens
    map_ = tokens_to_map(tokens, grid)
    return map_to_tokens(F.interpolate(map_, size=new.size, mode="bilinear", align_corners=align_corners))


def to_windows(tokens: Tensor, grid: Grid, window: Grid, layout: Layout = "block") -> Tensor:
    """Tokens (B, N, C) -> windows (B * count, window.tokens, C), those of an image one after another, row by row.

    "block": neighbours share a window. "grid": a window's positions lie as far apart as they can, evenly spread.
    `grid` is a multiple of the window.
    """
    rows, columns = grid.height // window.height, grid.width // window.width
    if not known(grid):
        return gather_windows(tokens, grid, Grid(rows, columns), window, *spacing(Grid(rows, columns), window, layout))
    map_ = tokens.unflatten(1, grid.size)
    if layout == "block":
        parts = map_.unflatten(2, (columns, window.width)).unflatten(1, (rows, window.height)).permute(0, 1, 3, 2, 4, 5)
    else:
        parts = map_.unflatten(2, (window.width, columns)).unflatten(1, (window.height, rows)).permute(0, 2, 4, 1, 3, 5)
    return parts.flatten(3, 4).flatten(0, 2)


def from_windows(windows: Tensor, batch: int, grid: Grid, window: Grid, layout: Layout = "block") -> Tensor:
    """The inverse of `to_windows`: contiguous tokens (batch, N, C)."""
    counts = Grid(grid.height // window.height, grid.width // window.width)
    if not known(grid):
        return join_windows(windows, batch, grid, counts, window, *spacing(counts, window, layout))
    parts = windows.unflatten(1, window.size).unflatten(0, (batch, *counts.size))
    parts = parts.permute(0, 1, 3, 2, 4, 5) if layout == "block" else parts.permute(0, 3, 1, 4, 2, 5)
    return parts.flatten(3, 4).flatten(1, 2).flatten(1, 2).contiguous()


def roll_map(tokens: Tensor, grid: Grid, down: int, right: int) -> Tensor:
    """Moves the map by less than its size; what leaves it on one side comes back on the other."""
    if not known(grid):
        return roll(tokens, grid, down, right)
    return tokens.unflatten(1, grid.size).roll((down, right), (1, 2)).flatten(1, 2)


def shift_mask(grid: Grid, window: Grid, shift: tuple[int, int], like: Tensor) -> Tensor:
    """Mask (windows, 1, n, n) of a map that was rolled up and to the left by `shift`: -100 between strangers, else 0.

    The roll joins opposite borders inside the last windows of an axis. There, what was before and after the seam are
    two regions; positions of different regions are strangers.
    """

    def region(size: int, side: int, moved: int) -> Tensor:
        position = torch.arange(size, device=like.device)
        return (position >= size - side).int() + (position >= size - moved).int()

    rows, columns = (region(*numbers) for numbers in zip(grid.size, window.size, shift, strict=True))
    regions = (3 * rows[:, None] + columns).reshape(1, -1, 1)
    if not known(grid):  # repeated here, where an image has more tokens than one, and not by the attention
        regions = regions.expand(like.shape[0], -1, -1)
    regions = to_windows(regions, grid, window).squeeze(2)
    strangers = regions[:, None, :, None] != regions[:, None, None, :]
    return -100.0 * strangers.to(like.dtype)


class WindowAttention(Mixer):
    """Attention (arXiv 2103.14030, 2204.01697) inside windows of (height, width) positions.

    `attention` keeps its shape and, if windows move, takes a mask; `layout` is as in `to_windows`. `shift` moves the
    windows down and to the right, but not along an axis that fits into one. A map that the window does not divide is
    padded with zeros, which take part as keys, as in the references.
    """

    attention: Transition
    window: tuple[int, int]
    layout: Layout = "block"
    shift: tuple[int, int] = (0, 0)


@module_of(WindowAttention, prefix=False)
class WindowAttentionModule(nn.Module):
    def __init__(self, spec: WindowAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        if not all(0 <= moved < side for moved, side in zip(spec.shift, spec.window, strict=True)):
            raise SpecError(f"{spec.kind}: a shift of {spec.shift} does not fit windows of {spec.window}")
        self.window = Grid(*spec.window)
        self.layout: Layout = spec.layout
        self.shift = spec.shift
        self.attention = spec.attention.build(dim, self.window)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        window, whole = self.window, whole_windows(grid, self.window)
        # No shift where one window covers the axis; computed without asking, see `known`.
        axes = zip(whole.size, window.size, self.shift, strict=True)
        down, right = (moved * (1 - 1 // (size // side)) for size, side, moved in axes)
        tokens = pad_map(tokens, grid, whole)
        if same_size(Grid(down, right), Grid(0, 0)) or not any(self.shift):
            windows = self.attention(to_windows(tokens, whole, window, self.layout), window)
            return crop_map(from_windows(windows, tokens.shape[0], whole, window, self.layout), whole, grid)
        windows = to_windows(roll_map(tokens, whole, -down, -right), whole, window, self.layout)
        windows = self.attention(windows, window, shift_mask(whole, window, (down, right), tokens))
        tokens = roll_map(from_windows(windows, tokens.shape[0], whole, window, self.layout), whole, down, right)
        return crop_map(tokens, whole, grid)
