"""Attention whose scores add what a query makes of the offset to each key, over the map or over neighbourhoods."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Grid, Mixer, SpecError, Strided, module_of
from ..tokens import every, gather_windows, known, offsets
from .activations import linear
from .attention import ScaledDotProduct, head_width, join_heads, split_heads
from .biases import stretch
from .windows import crop_map, from_windows, pad_map, to_windows, whole_windows


class RelativeLogits(nn.Module):
    """A learned vector for every offset along each axis (arXiv 2101.11605), owned here together with its resize."""

    height: nn.Parameter
    width: nn.Parameter

    def __init__(self, dim: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.height, self.width = (nn.Parameter(torch.empty(2 * size - 1, dim)) for size in grid.size)
        for table in self.parameters():
            nn.init.trunc_normal_(table, std=dim**-0.5)

    def forward(self, query: Tensor, asking: Grid, keys: Grid) -> Tensor:
        """Queries (B, heads, N, d) -> what their scores (B, heads, N, M) with keys add, both counted from one corner.

        It is the product of the query and the sum of two vectors, those at the offsets key - query along each axis.
        """
        query = query.unflatten(2, asking.size)
        # (queries, d, keys) at the offset key - query, which is 0 in the middle.
        tables = zip(self._tables(keys), keys.size, asking.size, strict=True)
        if known(keys):  # windows of a table are views
            rows, columns = (table.unfold(0, size, 1).flip(0)[:count] for table, size, count in tables)
        else:
            rows, columns = (table[size - 1 - offsets(size, table.device)].transpose(1, 2) for table, size, _ in tables)
        by_row = torch.einsum("bhyxd,ydi->bhyxi", query, rows)
        by_column = torch.einsum("bhyxd,xdj->bhyxj", query, columns)
        return (by_row.unsqueeze(5) + by_column.unsqueeze(4)).flatten(4).flatten(2, 3)

    def _tables(self, grid: Grid) -> list[Tensor]:
        tables: list[Tensor] = []
        for table, old, new in zip((self.height, self.width), self.grid.size, grid.size, strict=True):
            same = 1 // (1 + abs(new - old))
            resized = table if known(grid) and same else stretch(table.float()[:, None], new, same)[:, 0]
            tables.append(resized.to(table.dtype))
        return tables

    def load_resized(self, source: RelativeLogits) -> None:
        """Takes over tables that were built for another grid."""
        with torch.no_grad():
            for table, resized in zip((self.height, self.width), source._tables(self.grid), strict=True):
                table.copy_(resized)


class BottleneckAttention(Mixer):
    """Self-attention of BoTNet (arXiv 2101.11605), positions in its scores, without a last layer.

    Queries and keys have `key_dim` channels a head, by default as many as values. What the offset adds is not scaled.
    """

    heads: int = 4
    key_dim: int | None = None


@module_of(BottleneckAttention, prefix=False)
class BottleneckAttentionModule(nn.Module):
    def __init__(self, spec: BottleneckAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, width = spec.heads, head_width(spec.kind, dim, spec.heads)
        key_dim = spec.key_dim or width
        self.widths = [self.heads * key_dim, self.heads * key_dim, dim]
        self.qkv = linear(dim, sum(self.widths), bias=False)
        self.logits = RelativeLogits(key_dim, grid)
        self.attend = ScaledDotProduct(key_dim**-0.5)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(tokens).split(self.widths, dim=2))
        return join_heads(self.attend(query, key, value, self.logits(query, grid, grid)))


class HaloAttention(Strided):
    """Attention of the positions of a window to it and `halo` positions around it (arXiv 2103.12731), no last layer.

    With a `stride`, which divides the `window`, every so many positions ask, along both axes. A map that the window
    does not divide is padded with zeros; these and those around the map take part as keys, as in the reference, and
    offsets count from the corner of the window's queries to that of its keys. `key_dim` as in BottleneckAttention.
    """

    may_be_zero = ("halo",)
    halo: int
    heads: int = 8
    key_dim: int | None = None
    window: int = 8
    stride: int = 1


@module_of(HaloAttention, prefix=False)
class HaloAttentionModule(nn.Module):
    def __init__(self, spec: HaloAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        if spec.window % spec.stride:
            raise SpecError(f"{spec.kind}: a stride of {spec.stride} does not divide windows of {spec.window}")
        self.spec, self.heads, side = spec, spec.heads, spec.window + 2 * spec.halo
        self.around = Grid(side, side)
        value_dim = head_width(spec.kind, dim, spec.heads)
        self.key_dim = spec.key_dim or value_dim
        self.query = linear(dim, spec.heads * self.key_dim, bias=False)
        self.key_value = linear(dim, spec.heads * (self.key_dim + value_dim), bias=False)
        self.logits = RelativeLogits(self.key_dim, self.around)
        self.attend = ScaledDotProduct(self.key_dim**-0.5)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        spec, halo, window = self.spec, self.spec.halo, Grid(self.spec.window, self.spec.window)
        asking = Grid(window.height // spec.stride, window.width // spec.stride)
        out, whole = spec.out_grid(grid), whole_windows(grid, window)
        whole_out = spec.out_grid(whole)
        query = pad_map(self.query(every(tokens, grid, spec.stride)), out, whole_out)
        query = split_heads(to_windows(query, whole_out, asking), self.heads)
        borders = (halo, halo + whole.width - grid.width, halo, halo + whole.height - grid.height)
        map_ = F.pad(self.key_value(tokens).unflatten(1, grid.size), (0, 0, *borders))
        if known(grid):
            # (B, windows down, windows across, C, side, side) -> (B * windows, heads, side * side, C / heads)
            around = map_.unfold(1, self.around.height, window.height).unfold(2, self.around.width, window.width)
            key_value = around.flatten(4).flatten(0, 2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        else:
            wide = Grid(whole.height + 2 * halo, whole.width + 2 * halo)
            counts = Grid(whole.height // window.height, whole.width // window.width)
            around = gather_windows(map_.flatten(1, 2), wide, counts, self.around, window, Grid(1, 1))
            key_value = split_heads(around, self.heads)
        key, value = key_value.contiguous().split([self.key_dim, key_value.shape[3] - self.key_dim], dim=3)
        mixed = self.attend(query, key, value, self.logits(query, asking, self.around))
        return crop_map(from_windows(join_heads(mixed), tokens.shape[0], whole_out, asking), whole_out, out)
