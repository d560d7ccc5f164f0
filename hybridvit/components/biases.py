"""Relative position biases: what attention adds to the scores of two positions, from the offset between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Bias, Grid
from .activations import linear
from .convs import refuse_prefix


def by_pair(by_offset: Tensor, grid: Grid) -> Tensor:
    """Values by offset (2h - 1, 2w - 1, heads) -> by query and key (heads, N, N), at the offset query - key.

    Offset 0 is the middle of its axis. Windows of the table are views, so no table of indices is needed.
    """
    windows = by_offset.permute(2, 0, 1).unfold(1, grid.height, 1).unfold(2, grid.width, 1)
    # windows[:, y, x, i, j] is the value at (y + i, x + j), the offset to the key (h - 1 - i, w - 1 - j).
    return windows.flip(3, 4).flatten(3, 4).flatten(1, 2)


def growth(steps: int, reach: int) -> float:
    """The ratio, from 1.01 to 1.5, by which `steps` distances must grow, the first of them 1, to add up to `reach`."""
    low, high = 1.01, 1.5
    ratio = low
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (ratio**steps - 1) / (ratio - 1) > reach:
            high = ratio
        else:
            low = ratio
    return ratio


def stretch(values: Tensor, size: int) -> Tensor:
    """Values (2n - 1, ...) by offset along an axis of n positions, for an axis of `size` positions.

    The old offsets move apart in geometric progression until they span the new ones: near neighbours keep their
    values, and the far ones stretch. Between them values are linear, beyond them constant.
    """
    reach = values.shape[0] // 2
    ratio = growth(reach, size - 1)
    far = [(ratio**step - 1) / (ratio - 1) for step in range(1, reach + 1)]
    known = torch.tensor([-distance for distance in reversed(far)] + [0.0, *far], device=values.device)
    wanted = torch.arange(1.0 - size, size, device=values.device).clamp(known[0], known[-1])
    right = torch.searchsorted(known, wanted)
    left = (right - 1).clamp(min=0)
    share = (wanted - known[left]) / (known[right] - known[left]).clamp(min=1)
    return values[left].lerp(values[right], share[:, None, None])


def resize_offset_table(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """A table ((2h - 1) * (2w - 1), heads) for another grid, as BEiT (arXiv 2106.08254) and timm resize it."""
    values = table.float().unflatten(0, (2 * old.height - 1, 2 * old.width - 1))
    values = stretch(stretch(values, new.height).transpose(0, 1), new.width).transpose(0, 1)
    return values.flatten(0, 1).to(table.dtype)


class RelativePositionBias(Bias):
    """A learned value a head for every offset (arXiv 2103.14030), resized to the grid at hand."""

    def build(self, heads: int, grid: Grid) -> nn.Module:
        refuse_prefix(self.kind, grid)
        return RelativePositionTable(heads, grid)


class RelativePositionTable(nn.Module):
    """A table ((2h - 1) * (2w - 1), heads), owned here together with its resize."""

    table: nn.Parameter

    def __init__(self, heads: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.empty((2 * grid.height - 1) * (2 * grid.width - 1), heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, grid: Grid) -> Tensor:
        table = self.table if grid.size == self.grid.size else resize_offset_table(self.table, self.grid, grid)
        return by_pair(table.unflatten(0, (2 * grid.height - 1, 2 * grid.width - 1)), grid)

    def load_resized(self, source: RelativePositionTable) -> None:
        """Takes over a table that was built for another grid."""
        with torch.no_grad():
            self.table.copy_(resize_offset_table(source.table, source.grid, self.grid))


class RelativePositionMlp(Bias):
    """A value a head from the logarithm of the offset, by two linear layers (arXiv 2111.09883), on any grid."""

    hidden: int = 512

    def build(self, heads: int, grid: Grid) -> nn.Module:
        refuse_prefix(self.kind, grid)
        return RelativePositionMlpModule(self.hidden, heads)


class RelativePositionMlpModule(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.fc1 = linear(2, hidden)
        self.fc2 = linear(hidden, heads)

    def forward(self, grid: Grid) -> Tensor:
        axes = (torch.arange(1.0 - size, size, device=self.fc1.weight.device) for size in grid.size)
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        coordinates = (offsets.sign() * offsets.abs().log1p()).to(self.fc1.weight.dtype)
        return by_pair(self.fc2(F.relu(self.fc1(coordinates))), grid)


class ContinuousPositionBias(Bias):
    """A value a head, from 0 to 16, from the logarithm of the offset, by two linear layers (arXiv 2111.09883).

    Offsets are fractions of the largest in a window of `trained` (height, width) positions, of any grid.
    """

    trained: tuple[int, int]
    hidden: int = 512

    def build(self, heads: int, grid: Grid) -> nn.Module:
        refuse_prefix(self.kind, grid)
        return ContinuousPositionBiasModule(self, heads)


class ContinuousPositionBiasModule(nn.Module):
    def __init__(self, spec: ContinuousPositionBias, heads: int) -> None:
        super().__init__()
        self.trained = spec.trained
        self.fc1 = linear(2, spec.hidden)
        self.fc2 = linear(spec.hidden, heads, bias=False)

    def forward(self, grid: Grid) -> Tensor:
        axes = (
            8 * torch.arange(1.0 - size, size, device=self.fc1.weight.device) / max(trained - 1, 1)
            for size, trained in zip(grid.size, self.trained, strict=True)
        )
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        coordinates = offsets.sign() * (offsets.abs() + 1).log2() / 3
        values = self.fc2(F.relu(self.fc1(coordinates.to(self.fc1.weight.dtype))))
        return by_pair(16 * values.sigmoid(), grid)


class DistanceBias(Bias):
    """A learned value a head for every distance |dy|, |dx| (arXiv 2104.01136), resized to the grid at hand."""

    def build(self, heads: int, grid: Grid) -> nn.Module:
        refuse_prefix(self.kind, grid)
        return DistanceTable(heads, grid)


class DistanceTable(nn.Module):
    """A table (heads, h * w) by distance, row by row, owned here together with its resize."""

    table: nn.Parameter

    def __init__(self, heads: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.zeros(heads, grid.height * grid.width))

    def forward(self, grid: Grid) -> Tensor:
        table = self.table if grid.size == self.grid.size else resize_distances(self.table, self.grid, grid)
        return by_pair(mirrored(table, grid), grid)

    def load_resized(self, source: DistanceTable) -> None:
        """Takes over a table that was built for another grid."""
        with torch.no_grad():
            self.table.copy_(resize_distances(source.table, source.grid, self.grid))


def mirrored(table: Tensor, grid: Grid) -> Tensor:
    """Values by distance (heads, h * w) -> by offset (2h - 1, 2w - 1, heads)."""
    values = table.unflatten(1, grid.size).permute(1, 2, 0)
    values = torch.cat([values[1:].flip(0), values])
    return torch.cat([values[:, 1:].flip(1), values], dim=1)


def resize_distances(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """A table (heads, h * w) for another grid, by the same rule as `resize_offset_table`."""
    offsets = resize_offset_table(mirrored(table, old).flatten(0, 1), old, new)
    values = offsets.unflatten(0, (2 * new.height - 1, 2 * new.width - 1))[new.height - 1 :, new.width - 1 :]
    return values.permute(2, 0, 1).flatten(1)
