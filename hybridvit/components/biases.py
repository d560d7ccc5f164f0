"""Relative position biases: what attention adds to the scores of two positions, from the offset between them."""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from ..kernels import Keeping
from ..spec import Bias, Grid, module_of
from ..tokens import at_pairs, kept_bias, known
from .activations import linear
from .tables import GridTable


def by_pair(by_offset: Tensor, grid: Grid) -> Tensor:
    """Values by offset (2h - 1, 2w - 1, heads), 0 in the middle of an axis -> by query and key (heads, N, N)."""
    return at_pairs(by_offset.flatten(0, 1).t().contiguous(), grid)


def growth(steps: int, reach: int) -> float:
    """The ratio, from 1.01 to 1.5, by which `steps` distances must grow, the first of them 1, to add up to `reach`."""
    low, ratio, high = 1.01, 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        too_far = (ratio**steps - 1) / (ratio - 1) > reach
        low, high = (low, ratio) if too_far else (ratio, high)
    return ratio


@functools.cache
def growths(steps: int) -> tuple[float, ...]:
    """`growth` for every reach up to 1023, for a program of any size; the first, of no matter, moves none."""
    return (1.0, *(growth(steps, reach) for reach in range(1, 1024)))


def stretch(values: Tensor, size: int, same: int = 0) -> Tensor:
    """Values (2n - 1, ...) by offset along an axis of n positions, for an axis of `size` positions.

    The old offsets move apart in geometric progression until they span the new ones: near neighbours keep their
    values, and the far ones stretch. Between them values are linear, beyond them constant. In a program for any size
    `same` is 1 where nothing is to move.
    """
    reach = values.shape[0] // 2
    if known(Grid(size, size)):
        ratio = growth(reach, size - 1)
    else:
        # A number would be asked whether it is inside.
        place = torch.full((1,), (size - 1) * (1 - same), device=values.device)
        ratio = values.new_tensor(growths(reach))[place]
    apart = ratio ** torch.arange(reach, device=values.device).to(values)
    far = apart.expand(reach, reach).tril().sum(dim=1)  # cumsum on a GPU has no deterministic kernel
    places = torch.cat([-far.flip(0), values.new_zeros(1), far])
    wanted = torch.arange(1 - size, size, device=values.device).to(values).clamp(places[0], places[-1])
    right = (places < wanted[:, None]).sum(dim=1)
    left = (right - 1).clamp(min=0)
    share = (wanted - places[left]) / (places[right] - places[left]).clamp(min=1)
    return values[left].lerp(values[right], share[:, None, None])


def resize_offset_table(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """A table ((2h - 1) * (2w - 1), heads) for another grid, as BEiT (arXiv 2106.08254) and timm resize it."""
    values = table.float().unflatten(0, (2 * old.height - 1, 2 * old.width - 1))
    same = 1 // (1 + abs(new.height - old.height) + abs(new.width - old.width))
    values = stretch(stretch(values, new.height, same).transpose(0, 1), new.width, same).transpose(0, 1)
    return values.flatten(0, 1).to(table.dtype)


class RelativePositionBias(Bias):
    """A learned value a head for every offset (arXiv 2103.14030), resized to the grid at hand."""


@module_of(RelativePositionBias, prefix=False)
class RelativePositionTable(GridTable):
    """A table ((2h - 1) * (2w - 1), heads)."""

    def __init__(self, spec: RelativePositionBias, heads: int, grid: Grid) -> None:
        super().__init__(grid, (2 * grid.height - 1) * (2 * grid.width - 1), heads, std=0.02)

    def resized(self, grid: Grid) -> Tensor:
        return resize_offset_table(self.table, self.grid, grid)

    def forward(self, grid: Grid) -> Tensor:
        sides = 2 * grid.height - 1, 2 * grid.width - 1
        return kept_bias(self, grid, lambda: by_pair(self.at(grid).unflatten(0, sides), grid))


class RelativePositionMlp(Bias):
    """A value a head from the logarithm of the offset, by two linear layers (arXiv 2111.09883), on any grid."""

    hidden: int = 512


@module_of(RelativePositionMlp, prefix=False)
class RelativePositionMlpModule(Keeping):
    def __init__(self, spec: RelativePositionMlp, heads: int, grid: Grid) -> None:
        super().__init__()
        self.fc1, self.fc2 = linear(2, spec.hidden), linear(spec.hidden, heads)

    def forward(self, grid: Grid) -> Tensor:
        return kept_bias(self, grid, lambda: self._values(grid))

    def _values(self, grid: Grid) -> Tensor:
        axes = (torch.arange(1 - size, size, device=self.fc1.weight.device).float() for size in grid.size)
        offset = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        coordinates = (offset.sign() * offset.abs().log1p()).to(self.fc1.weight.dtype)
        return by_pair(self.fc2(F.relu(self.fc1(coordinates))), grid)


class ContinuousPositionBias(Bias):
    """A value a head, from 0 to 16, from the logarithm of the offset, by two linear layers (arXiv 2111.09883).

    Offsets are fractions of the largest in a window of `trained` (height, width) positions, of any grid.
    """

    trained: tuple[int, int]
    hidden: int = 512


@module_of(ContinuousPositionBias, prefix=False)
class ContinuousPositionBiasModule(Keeping):
    def __init__(self, spec: ContinuousPositionBias, heads: int, grid: Grid) -> None:
        super().__init__()
        self.trained = spec.trained
        self.fc1, self.fc2 = linear(2, spec.hidden), linear(spec.hidden, heads, bias=False)

    def forward(self, grid: Grid) -> Tensor:
        return kept_bias(self, grid, lambda: self._values(grid))

    def _values(self, grid: Grid) -> Tensor:
        like, sides = self.fc1.weight, zip(grid.size, self.trained, strict=True)
        axes = (8 * torch.arange(1 - n, n, device=like.device).float() / max(trained - 1, 1) for n, trained in sides)
        offset = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        coordinates = offset.sign() * (offset.abs() + 1).log2() / 3
        values = self.fc2(F.relu(self.fc1(coordinates.to(like.dtype))))
        return by_pair(16 * values.sigmoid(), grid)


class DistanceBias(Bias):
    """A learned value a head for every distance |dy|, |dx| (arXiv 2104.01136), resized to the grid at hand."""


@module_of(DistanceBias, prefix=False)
class DistanceTable(GridTable):
    """A table (heads, h * w) by distance, row by row."""

    def __init__(self, spec: DistanceBias, heads: int, grid: Grid) -> None:
        super().__init__(grid, heads, grid.height * grid.width)

    def resized(self, grid: Grid) -> Tensor:
        """By the same rule as `resize_offset_table`."""
        table = resize_offset_table(mirrored(self.table, self.grid).flatten(0, 1), self.grid, grid)
        values = table.unflatten(0, (2 * grid.height - 1, 2 * grid.width - 1))[grid.height - 1 :, grid.width - 1 :]
        return values.permute(2, 0, 1).flatten(1)

    def forward(self, grid: Grid, step: int = 1) -> Tensor:
        """With a `step` every so many positions along both axes are queries: (heads, M, N)."""
        return kept_bias(self, grid, lambda: at_pairs(self.at(grid), grid, distances=True, step=step))


def mirrored(table: Tensor, grid: Grid) -> Tensor:
    """Values by distance (heads, h * w) -> by offset (2h - 1, 2w - 1, heads)."""
    values = table.unflatten(1, grid.size).permute(1, 2, 0)
    values = torch.cat([values[1:].flip(0), values])
    return torch.cat([values[:, 1:].flip(1), values], dim=1)
