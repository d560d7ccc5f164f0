"""Ways to attend with equally many keys a query, some that share a key set and some that do not.

All take queries, keys and values as tokens (1, N, C) of a square map and give tokens (1, N, C).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridvit.components.attention import join_heads, split_heads
from hybridvit.components.windows import from_windows, to_windows
from hybridvit.spec import Grid

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A map of `side` x `side` positions, `heads` of `width` channels, and `window` x `window` keys a query.

    Windows are a partition of the map, so `window` divides `side`. One that slides is centred on its query; an even one
    reaches one position further up and to the left. Positions outside the map are no keys.
    """

    side: int
    heads: int
    width: int
    window: int

    @property
    def grid(self) -> Grid:
        return Grid(self.side, self.side)

    @property
    def keys(self) -> int:
        return self.window**2

    @property
    def flops(self) -> int:
        """Of scores and sums with all keys of a window, a multiply-add counted as two."""
        return 4 * self.grid.tokens * self.keys * self.heads * self.width

    @property
    def reach(self) -> tuple[int, int]:
        """How far a sliding window goes before and behind its query, along an axis."""
        return self.window // 2, self.window - 1 - self.window // 2

    def tokens(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """The same queries, keys and values for every way."""
        generator = torch.Generator().manual_seed(0)
        size = (3, 1, self.grid.tokens, self.heads * self.width)
        query, key, value = torch.randn(size, generator=generator).to(device)
        return query, key, value


def attend(shape: Shape, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's fused kernel on tokens (B, N, C), (B, M, C) and (B, M, C)."""
    parts = (split_heads(part, shape.heads) for part in (query, key, value))
    return join_heads(F.scaled_dot_product_attention(*parts, attn_mask=mask))


def spread(shape: Shape, device: torch.device | str = "cpu") -> Tensor:
    """As many positions as a window has, evenly over the map."""
    axis = (2 * torch.arange(shape.window, device=device) + 1) * shape.side // (2 * shape.window)
    return (axis[:, None] * shape.side + axis).flatten()


def shared_by_all(shape: Shape, device: str) -> Attend:
    """All queries have the keys of some positions, spread over the map."""
    positions = spread(shape, device)
    return lambda query, key, value: attend(shape, query, key[:, positions], value[:, positions])


def shared_by_windows(shape: Shape, device: str) -> Attend:
    """The queries of a window have its keys."""
    window = Grid(shape.window, shape.window)

    def run(*tokens: Tensor) -> Tensor:
        return from_windows(
            attend(shape, *(to_windows(each, shape.grid, window) for each in tokens)), 1, shape.grid, window
        )

    return run


def around(shape: Shape, tokens: Tensor, asking: int) -> Tensor:
    """What windows that slide over squares of `asking` x `asking` queries reach: (1, rows, columns, C, side, side),
    a view.

    Zeros are outside the map.
    """
    side = asking + shape.window - 1
    padded = F.pad(tokens.unflatten(1, shape.grid.size), (0, 0, *shape.reach, *shape.reach))
    return padded.unfold(1, side, asking).unfold(2, side, asking)


def reached(shape: Shape, asking: int, device: str) -> Tensor:
    """Which positions of `around` are keys: (squares, queries of a square, positions around it)."""
    ones = torch.ones(1, shape.grid.tokens, 1, device=device)
    inside = around(shape, ones, asking).flatten(3).flatten(0, 2) > 0
    place, asks = (torch.arange(n, device=device) for n in (asking + shape.window - 1, asking))
    offset = place - asks[:, None]
    near = (offset >= 0) & (offset < shape.window)  # (queries, positions) along an axis
    both = near[:, None, :, None] & near[None, :, None, :]
    return inside[:, None] & both.flatten(2, 3).flatten(0, 1)


def sliding_unfolded(shape: Shape, device: str) -> Attend:
    """Every query's own keys and values are written down side by side."""
    mask = reached(shape, 1, device)[:, None]

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # (N, heads, width, keys)
        keys, values = (
            around(shape, part, 1).flatten(4).flatten(0, 2).unflatten(1, (shape.heads, -1)) for part in (key, value)
        )
        scores = shape.width**-0.5 * query.view(-1, shape.heads, 1, shape.width) @ keys
        weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
        return (weights @ values.transpose(2, 3)).flatten(1).unsqueeze(0)

    return run


def sliding_in_tiles(shape: Shape, device: str) -> Attend:
    """The queries of a square share all keys that any of them has, and a mask takes what is too far."""
    tile = Grid(shape.window, shape.window)
    mask = reached(shape, shape.window, device)[:, None]

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sets = (around(shape, part, shape.window).flatten(4).flatten(0, 2) for part in (key, value))
        keys, values = (each.transpose(1, 2).contiguous() for each in sets)
        mixed = attend(shape, to_windows(query, shape.grid, tile), keys, values, mask)
        return from_windows(mixed, 1, shape.grid, tile)

    return run


def block_mask(shape: Shape, device: str) -> Any:
    """FlexAttention's mask of windows that slide, over positions row by row."""
    from torch.nn.attention.flex_attention import create_block_mask

    side, (before, behind) = shape.side, shape.reach

    def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down, right = key // side - query // side, key % side - query % side
        return (down >= -before) & (down <= behind) & (right >= -before) & (right <= behind)

    return create_block_mask(near, None, None, shape.grid.tokens, shape.grid.tokens, device=device)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


def sliding_flex(shape: Shape, device: str) -> Attend:
    """FlexAttention, compiled: a kernel that passes over blocks of keys that no query of a block has."""
    from torch.nn.attention.flex_attention import flex_attention

    mask, kernel = block_mask(shape, device), compiled(flex_attention)

    def run(*tokens: Tensor) -> Tensor:
        return join_heads(kernel(*(split_heads(each, shape.heads) for each in tokens), block_mask=mask))

    return run


def flex_keys(shape: Shape) -> float:
    blocks = block_mask(shape, "cpu")
    return blocks.kv_num_blocks.sum().item() * blocks.BLOCK_SIZE[0] * blocks.BLOCK_SIZE[1] / shape.grid.tokens


@dataclass(frozen=True, kw_only=True)
class Way:
    """`make(shape, device)` gives what is run. `sets(shape)` yields each query's positions of keys, in order.

    `computed(shape)`: how many keys a query is multiplied with, masked ones included.
    """

    make: Callable[[Shape, str], Attend]
    sets: Callable[[Shape], Iterator[Tensor]]
    computed: Callable[[Shape], float] = lambda shape: shape.keys


def _all(shape: Shape) -> Iterator[Tensor]:
    for _ in range(shape.grid.tokens):
        yield spread(shape)


def _partition(shape: Shape) -> Iterator[Tensor]:
    positions = torch.arange(shape.grid.tokens).view(shape.grid.size)
    for row in range(shape.side):
        for column in range(shape.side):
            top, left = (place // shape.window * shape.window for place in (row, column))
            yield positions[top : top + shape.window, left : left + shape.window].flatten()


def _sliding(shape: Shape) -> Iterator[Tensor]:
    positions, (before, behind) = torch.arange(shape.grid.tokens).view(shape.grid.size), shape.reach
    for row in range(shape.side):
        for column in range(shape.side):
            top, left = max(row - before, 0), max(column - before, 0)
            yield positions[top : row + behind + 1, left : column + behind + 1].flatten()


# Windows first: the others are compared with them.
WAYS: Mapping[str, Way] = {
    "windows": Way(make=shared_by_windows, sets=_partition),
    "global": Way(make=shared_by_all, sets=_all),
    "sliding, unfold": Way(make=sliding_unfolded, sets=_sliding),
    "sliding, tiles": Way(make=sliding_in_tiles, sets=_sliding, computed=lambda shape: (2 * shape.window - 1) ** 2),
    "sliding, FlexAttention": Way(make=sliding_flex, sets=_sliding, computed=flex_keys),
}


@functools.cache
def reference(shape: Shape, sets: Callable[[Shape], Iterator[Tensor]]) -> Tensor:
    """Query by query in double precision, from its positions of keys."""
    query, key, value = (each.double().unflatten(2, (shape.heads, -1))[0] for each in shape.tokens())
    mixed = torch.empty_like(query)
    for asking, positions in enumerate(sets(shape)):
        scores = torch.einsum("hd,khd->hk", query[asking], key[positions]) * shape.width**-0.5
        mixed[asking] = torch.einsum("hk,khd->hd", scores.softmax(dim=-1), value[positions])
    return mixed.flatten(1).unsqueeze(0)
