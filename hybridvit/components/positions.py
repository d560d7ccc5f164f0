"""What a stage puts to its tokens where it begins: prefix tokens in front, and absolute positions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Grid, Position, fewer, module_of
from ..tokens import join_prefix, known, map_to_tokens, same_size
from .activations import linear
from .functions import Function
from .tables import GridTable


class PrefixTokens(nn.Module):
    """Puts `count` learned tokens (class, register, distillation, ...) in front of the sequence."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(1, count, dim))
        nn.init.trunc_normal_(self.tokens, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return join_prefix(self.tokens, tokens)


def resize_table(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """A table (1, prefix + H*W, C) for another height and width: bicubic with antialiasing, the prefix unchanged."""
    prefix, positions = table[:, : old.prefix], table[:, old.prefix :]
    map_ = positions.unflatten(1, old.size).permute(0, 3, 1, 2).float()
    map_ = F.interpolate(map_, size=new.size, mode="bicubic", antialias=True)
    return torch.cat([prefix, map_.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)], dim=1)


class LearnedPosition(Position):
    """A learned vector for every position of the grid the model was built for, resized to the grid at hand.

    `on_prefix` says whether prefix tokens have a vector of their own (ViT: yes; DINOv2 with registers: no).
    """

    on_prefix: bool = True


@module_of(LearnedPosition)
class PositionTable(GridTable):
    """Adds a table (1, prefix + H*W, C)."""

    def __init__(self, spec: LearnedPosition, dim: int, grid: Grid) -> None:
        grid = grid if spec.on_prefix else grid._replace(prefix=0)
        super().__init__(grid, 1, grid.tokens, dim, std=0.02)

    def resized(self, grid: Grid) -> Tensor:
        return resize_table(self.table, self.grid, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        table, uncovered = self.at(grid), grid.prefix - self.grid.prefix
        return tokens + (F.pad(table, (0, 0, uncovered, 0)) if uncovered else table)


class WindowedPosition(Position):
    """A learned table of `coarse` positions a side for the image, resized, and one for a window, repeated over it."""

    coarse: int
    window: int


@module_of(WindowedPosition)
class WindowedPositionModule(nn.Module):
    def __init__(self, spec: WindowedPosition, dim: int, grid: Grid) -> None:
        super().__init__()
        sides = (spec.coarse, spec.window)
        self.coarse, self.window = (nn.Parameter(0.02 * torch.randn(1, dim, side, side)) for side in sides)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        coarse = F.interpolate(self.coarse.float(), size=grid.size, mode="bicubic", antialias=True).to(tokens.dtype)
        counts = [fewer(size, self.window.shape[-1]) for size in grid.size]
        window = self.window.tile(1, 1, *counts)
        if known(grid):
            window = window[:, :, : grid.height, : grid.width]
        else:
            rows, columns = (torch.arange(size, device=window.device) for size in grid.size)
            window = window.index_select(2, rows).index_select(3, columns)
        return tokens + map_to_tokens(coarse + window)


class SinePosition(Function, Position):
    """Fixed sines and cosines of the index along the sequence (arXiv 1706.03762) of a grid of (height, width) `size`.

    At any other grid the table is resized like a learned one, so that a trained model keeps its sense of place.
    """

    size: tuple[int, int]

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        built = Grid(*self.size, grid.prefix)
        table = sine_table(built.tokens, tokens.shape[2], tokens.device)
        if not same_size(grid, built):
            table = resize_table(table, built, grid)
        return tokens + table.to(tokens.dtype)


def sine_table(count: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Sine table (1, count, dim): channel 2i holds the sine and 2i + 1 the cosine of index / 10000^(2i / dim)."""
    index = torch.arange(count, device=device, dtype=torch.float32)[:, None]
    channel = torch.arange(dim, device=device)
    return _waves(index * torch.pow(10000.0, -2 * (channel // 2) / dim))[None]


class FourierPosition(Position):
    """A linear layer of sines and cosines of the place, as a fraction of the image, at `rates` rates (2106.09681)."""

    rates: int = 32
    temperature: float = 10000.0


@module_of(FourierPosition)
class FourierPositionModule(nn.Module):
    def __init__(self, spec: FourierPosition, dim: int, grid: Grid) -> None:
        super().__init__()
        self.spec = spec
        self.proj = linear(2 * spec.rates, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        channel = torch.arange(self.spec.rates, device=tokens.device)
        rate = self.spec.temperature ** (-2 * (channel // 2) / self.spec.rates)
        turns = (2 * math.pi / (size + 1e-6) * torch.arange(1, size + 1, device=tokens.device) for size in grid.size)
        rows, columns = (_waves(turn[:, None] * rate) for turn in turns)
        waves = torch.cat([rows[:, None].expand(-1, grid.width, -1), columns[None].expand(grid.height, -1, -1)], dim=-1)
        return tokens + self.proj(waves.flatten(0, 1).to(tokens.dtype))


def _waves(angle: Tensor) -> Tensor:
    """The sine in even channels, the cosine in odd ones."""
    return torch.where(torch.arange(angle.shape[-1], device=angle.device) % 2 == 0, angle.sin(), angle.cos())
