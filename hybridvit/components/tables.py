"""Learned tables that belong to a grid."""

from typing import Self

import torch
from torch import Tensor, nn

from ..kernels import Keeping
from ..spec import Grid
from ..tokens import same_size


class GridTable(Keeping):
    """A learned `table` for one grid, owned here together with its resize to others."""

    table: nn.Parameter

    def __init__(self, grid: Grid, *shape: int, std: float = 0.0) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.zeros(shape))
        if std:
            nn.init.trunc_normal_(self.table, std=std)

    def resized(self, grid: Grid) -> Tensor:
        """The table, computed for another grid."""
        raise NotImplementedError

    def at(self, grid: Grid) -> Tensor:
        """The table for the grid at hand."""
        same = same_size(grid, self.grid)
        return self.table if same else self.kept(grid, lambda: self.resized(grid), self.table)

    def load_resized(self, source: Self) -> None:
        """Takes over a table that was built for another grid."""
        with torch.no_grad():
            self.table.copy_(source.at(self.grid))
