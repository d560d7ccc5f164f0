"""Rotary positions: queries and keys are turned by angles that grow with their place (arXiv 2104.09864, 2403.13298).

The channels of a head are pairs; every pair is a point of a plane, turned by its own angle. Scores then depend on the
offset of two positions. Prefix tokens have no position and are not turned.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Grid, Spec, SpecError, module_of


class Rotary(Spec):
    """How positions turn queries and keys. `build(heads, width)` gives a module: (query, key, grid) -> (query, key)."""

    def build(self, heads: int, width: int) -> nn.Module:
        return self._built(heads, width)


class RotaryModule(nn.Module):
    """Turns queries and keys (B, heads, N, d). `halves`: channel i pairs with i + d / 2, else with its neighbour."""

    halves = False

    def __init__(self, spec: Any, heads: int, width: int) -> None:
        super().__init__()
        if width % 4:
            raise SpecError(f"rotary positions on two axes need heads of a multiple of 4 channels, not {width}")
        self.spec, self.width = spec, width

    def angles(self, grid: Grid, device: torch.device) -> Tensor:
        """Angles (h * w, d / 2) or (heads, h * w, d / 2) in radians, in single precision."""
        raise NotImplementedError

    def forward(self, query: Tensor, key: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        angles = F.pad(self.angles(grid, query.device), (0, 0, grid.prefix, 0))
        cosine, sine = angles.cos(), angles.sin()
        return self._turned(query, cosine, sine), self._turned(key, cosine, sine)

    def _turned(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x, y = tokens.chunk(2, dim=-1) if self.halves else tokens.unflatten(-1, (-1, 2)).unbind(-1)
        # Heads of a position side by side, as attention then leaves them, which makes a view of joining them.
        turned = [part.transpose(1, 2) for part in (x * cosine - y * sine, y * cosine + x * sine)]
        joined = torch.cat(turned, dim=-1) if self.halves else torch.stack(turned, dim=-1).flatten(-2)
        return joined.transpose(1, 2).to(tokens.dtype)


def falling(temperature: float, count: int, device: torch.device | None = None) -> Tensor:
    """Rates (count) from 1 towards 1 / temperature, in geometric progression."""
    return temperature ** -(torch.arange(count, device=device, dtype=torch.float32) / count)


def by_axes(rows: Tensor, columns: Tensor, rates: Tensor, columns_first: bool = False) -> Tensor:
    """Angles (h * w, 2 * rates): the places along one axis times every rate, then those along the other."""
    along_rows = (rows[:, None] * rates)[:, None].expand(-1, columns.shape[0], -1)
    along_columns = (columns[:, None] * rates)[None].expand(rows.shape[0], -1, -1)
    axes = (along_columns, along_rows) if columns_first else (along_rows, along_columns)
    return torch.cat(axes, dim=-1).flatten(0, 1)


class IndexRotary(Rotary):
    """Half the pairs of a head turn with the row and half with the column, at d / 4 rates from 1 to 1 / temperature.

    `reference` is the grid of the pretraining, to which every other grid is stretched (arXiv 2303.11331). Positions
    count from `first`, before they are stretched. `columns_first`: the first half turns with the column.
    """

    temperature: float = 10000.0
    reference: tuple[int, int] | None = None
    first: int = 0
    columns_first: bool = False


@module_of(IndexRotary)
class IndexRotaryModule(RotaryModule):
    def angles(self, grid: Grid, device: torch.device) -> Tensor:
        rates = falling(self.spec.temperature, self.width // 4, device)
        reference = self.spec.reference or grid.size
        indices = (torch.arange(size, device=device, dtype=torch.float32) + self.spec.first for size in grid.size)
        rows, columns = (i * (to / size) for i, to, size in zip(indices, reference, grid.size, strict=True))
        return by_axes(rows, columns, rates, self.spec.columns_first)


class CentredRotary(Rotary):
    """Half the pairs of a head turn with the row and half with the column, both from -1 to 1 across any grid.

    As in DINOv3 (arXiv 2508.10104): from 1 turn to 1 / temperature turns a unit, in d / 4 steps.
    """

    temperature: float = 100.0


@module_of(CentredRotary)
class CentredRotaryModule(RotaryModule):
    halves = True

    def angles(self, grid: Grid, device: torch.device) -> Tensor:
        turns = falling(self.spec.temperature, self.width // 4, device)
        indices = (torch.arange(size, device=device, dtype=torch.float32) for size in grid.size)
        rows, columns = (2 * (i + 0.5) / size - 1 for i, size in zip(indices, grid.size, strict=True))
        return by_axes(rows, columns, 2 * math.pi * turns)


class LearnedRotary(Rotary):
    """Every pair of every head turns with row and column at two learned rates (arXiv 2403.13298)."""

    temperature: float = 10.0


@module_of(LearnedRotary)
class LearnedRotaryModule(RotaryModule):
    """`rates` (2, 1, heads, d / 2): radians from one column to the next, and from one row to the next."""

    rates: nn.Parameter

    def __init__(self, spec: LearnedRotary, heads: int, width: int) -> None:
        super().__init__(spec, heads, width)
        count = width // 4
        size = falling(spec.temperature, count)
        # Each head starts with two axes at a right angle, and turned by a random angle of its own.
        direction = 2 * math.pi * torch.rand(heads, 1) + torch.tensor([0.0, math.pi / 2]).repeat_interleave(count)
        self.rates = nn.Parameter(torch.stack([direction.cos(), direction.sin()])[:, None] * size.repeat(2))

    def angles(self, grid: Grid, device: torch.device) -> Tensor:
        across, down = self.rates.float().transpose(1, 2)  # each (heads, 1, d / 2)
        rows, columns = (torch.arange(size, device=device, dtype=torch.float32)[:, None] for size in grid.size)
        return ((rows * down)[:, :, None] + (columns * across)[:, None]).flatten(1, 2)
