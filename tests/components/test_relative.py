"""Scores that add what a query makes of the offset to each key, told by their plain definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hybridvit.components.relative import BottleneckAttention, HaloAttention, RelativeLogits
from hybridvit.spec import Grid, SpecError
from tests.parity import perturb


def test_logits_are_products_with_the_vectors_of_the_offsets() -> None:
    grid = Grid(3, 4)
    logits, query = RelativeLogits(5, grid), torch.randn(2, 2, 12, 5)
    found = logits(query, grid, grid).unflatten(2, grid.size).unflatten(4, grid.size)
    for (y, x), (i, j) in (((0, 1), (2, 3)), ((2, 3), (0, 1)), ((1, 0), (1, 2))):
        vector = logits.height[i - y + 2] + logits.width[j - x + 3]
        torch.testing.assert_close(found[:, :, y, x, i, j], query[:, :, 4 * y + x] @ vector)


@pytest.mark.parametrize("size", [(3, 4), (5, 4), (2, 6), (1, 1)])
def test_tables_are_resized_once_as_in_every_pass(size: tuple[int, int]) -> None:
    """An axis of the same length keeps its table."""
    grid, logits, resized = Grid(*size), RelativeLogits(5, Grid(3, 4)), RelativeLogits(5, Grid(*size))
    resized.load_resized(logits)
    query = torch.randn(2, 2, grid.tokens, 5)
    assert torch.equal(resized(query, grid, grid), logits(query, grid, grid))
    assert torch.equal(resized.height, logits.height) == (size[0] == 3)
    assert torch.equal(resized.width, logits.width) == (size[1] == 4)


def test_attention_over_the_map_is_halo_attention_of_one_window_without_surroundings() -> None:
    grid = Grid(4, 4)
    whole: Any = BottleneckAttention(heads=2, key_dim=3).build(8, grid)
    perturb(whole)
    halo: Any = HaloAttention(halo=0, heads=2, key_dim=3, window=4).build(8, grid)
    halo.logits.load_state_dict(whole.logits.state_dict())
    query, key, value = whole.qkv.weight.split([6, 6, 8])
    halo.query.weight = torch.nn.Parameter(query)
    key_value = torch.cat([key.unflatten(0, (2, 3)), value.unflatten(0, (2, 4))], dim=1).flatten(0, 1)
    halo.key_value.weight = torch.nn.Parameter(key_value)
    tokens = torch.randn(3, 16, 8)
    torch.testing.assert_close(halo(tokens, grid), whole(tokens, grid))


def one_window(module: Any, tokens: Tensor, grid: Grid, top: int, left: int) -> Tensor:
    """Halo attention of a window by loops over its queries; no position lies outside but as zeros."""
    spec, side = module.spec, module.around.height
    map_ = tokens.unflatten(1, grid.size)
    around = torch.zeros(tokens.shape[0], side, side, tokens.shape[2])
    for i in range(side):
        for j in range(side):
            y, x = top + i - spec.halo, left + j - spec.halo
            if 0 <= y < grid.height and 0 <= x < grid.width:
                around[:, i, j] = map_[:, y, x]
    key_value = module.key_value(around.flatten(1, 2)).unflatten(2, (spec.heads, -1))
    key, value = key_value[..., : module.key_dim], key_value[..., module.key_dim :]
    rows = []
    for row in range(spec.window // spec.stride):
        for column in range(spec.window // spec.stride):
            y, x = top + row * spec.stride, left + column * spec.stride
            if y < grid.height and x < grid.width:
                query = module.query(map_[:, y, x]).unflatten(1, (spec.heads, -1))
                table_rows = module.logits.height[side - 1 - row : 2 * side - 1 - row]
                table_columns = module.logits.width[side - 1 - column : 2 * side - 1 - column]
                vectors = (table_rows[:, None] + table_columns[None]).flatten(0, 1)
                scores = torch.einsum("bhd,bmhd->bhm", query, key) * module.key_dim**-0.5 + query @ vectors.T
                rows.append(torch.einsum("bhm,bmhd->bhd", scores.softmax(dim=2), value).flatten(1))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 4), (5, 7), (3, 2), (1, 1)])
def test_halo_attention_by_its_definition(size: tuple[int, int], stride: int) -> None:
    grid, spec = Grid(*size), HaloAttention(halo=1, heads=2, window=4, stride=stride)
    module: Any = spec.build(8, grid)
    perturb(module)
    tokens, out = torch.randn(2, grid.tokens, 8), spec.out_grid(grid)
    with torch.no_grad():
        map_ = module(tokens, grid).unflatten(1, out.size)
        for top in range(0, grid.height, 4):
            for left in range(0, grid.width, 4):
                side = 4 // stride
                y, x = top // stride, left // stride
                found = map_[:, y : y + side, x : x + side].flatten(1, 2)
                torch.testing.assert_close(found, one_window(module, tokens, grid, top, left), atol=1e-5, rtol=1e-5)


def test_a_stride_that_does_not_divide_windows_is_refused() -> None:
    with pytest.raises(SpecError, match="a stride of 2 does not divide windows of 7"):
        HaloAttention(halo=2, window=7, stride=2).build(16, Grid(14, 14))
