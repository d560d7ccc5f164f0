"""Attention inside windows is attention over the map between positions that share a window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridvit.components.attention import Attention, AttentionModule
from hybridvit.components.biases import RelativePositionBias
from hybridvit.components.windows import (
    Layout,
    WindowAttention,
    WindowAttentionModule,
    crop_map,
    from_windows,
    pad_map,
    to_windows,
)
from hybridvit.spec import Grid, SpecError
from tests.parity import perturb

GRID, WINDOW = Grid(6, 8), (3, 4)


def built(layout: Layout = "block", shift: tuple[int, int] = (0, 0), bias: bool = False) -> WindowAttentionModule:
    attention = Attention(heads=2, bias=RelativePositionBias() if bias else None)
    module = WindowAttention(attention=attention, window=WINDOW, layout=layout, shift=shift).build(8, GRID)
    assert isinstance(module, WindowAttentionModule)
    perturb(module)
    return module.eval()


def tokens(grid: Grid, seed: int = 0) -> Tensor:
    return torch.randn(2, grid.tokens, 8, generator=torch.Generator().manual_seed(seed))


def window_of(y: int, x: int, layout: Layout, shift: tuple[int, int]) -> tuple[int, int]:
    """The window of a position of GRID, told by the plain definition."""
    if layout == "grid":
        return y % (GRID.height // WINDOW[0]), x % (GRID.width // WINDOW[1])
    # Shifted windows begin at the shift; what is before it is a (smaller) window of its own.
    return (y - shift[0]) // WINDOW[0], (x - shift[1]) // WINDOW[1]


@pytest.mark.parametrize(
    ("layout", "shift"), [("block", (0, 0)), ("grid", (0, 0)), ("block", (1, 2)), ("block", (0, 2)), ("block", (2, 3))]
)
def test_positions_attend_inside_their_window_only(layout: Layout, shift: tuple[int, int]) -> None:
    module = built(layout, shift)
    positions = [window_of(y, x, layout, shift) for y in range(GRID.height) for x in range(GRID.width)]
    together = torch.tensor([[a == b for b in positions] for a in positions])
    everywhere = Attention(heads=2).build(8, GRID)
    assert isinstance(everywhere, AttentionModule)
    everywhere.load_state_dict(module.attention.state_dict())
    mask = torch.zeros(together.shape).masked_fill(~together, -torch.inf)[None, None]
    with torch.no_grad():
        found, expected = module(tokens(GRID), GRID), everywhere(tokens(GRID), GRID, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.is_contiguous()


@pytest.mark.parametrize("layout", ["block", "grid"])
def test_windows_hold_their_positions_row_by_row(layout: Layout) -> None:
    window = Grid(*WINDOW)
    index = torch.arange(2 * GRID.tokens).reshape(2, -1, 1)
    windows = to_windows(index, GRID, window, layout)
    assert windows.shape == (8, 12, 1)
    first = windows[0, :, 0].unflatten(0, window.size)
    assert first[0, 1] - first[0, 0] == (1 if layout == "block" else GRID.width // window.width)
    assert first[1, 0] - first[0, 0] == GRID.width * (1 if layout == "block" else GRID.height // window.height)
    assert torch.equal(from_windows(windows, 2, GRID, window, layout), index)


@pytest.mark.parametrize("shift", [(0, 0), (1, 2)])
@pytest.mark.parametrize("grid", [Grid(4, 7), Grid(7, 9), Grid(5, 4), Grid(1, 1)])
def test_a_map_of_any_size_is_padded_with_zeros(grid: Grid, shift: tuple[int, int]) -> None:
    module = built(shift=shift, bias=True)
    whole = Grid(-(-grid.height // 3) * 3, -(-grid.width // 4) * 4)
    with torch.no_grad():
        found = module(tokens(grid), grid)
        expected = crop_map(module(pad_map(tokens(grid), grid, whole), whole), whole, grid)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert found.shape == (2, grid.tokens, 8)


def test_an_axis_inside_one_window_is_not_shifted() -> None:
    shifted, still = built(shift=(1, 2), bias=True), built(shift=(0, 2), bias=True)
    grid = Grid(3, 8)
    with torch.no_grad():
        assert torch.equal(shifted(tokens(grid), grid), still(tokens(grid), grid))


def test_every_window_has_the_same_bias() -> None:
    module = built(bias=True)
    same = tokens(Grid(*WINDOW))[:, None].expand(-1, 4, -1, -1)
    whole = from_windows(same.flatten(0, 1), 2, GRID, Grid(*WINDOW))
    with torch.no_grad():
        results = to_windows(module(whole, GRID), GRID, Grid(*WINDOW)).unflatten(0, (2, 4))
    torch.testing.assert_close(results, results[:, :1].expand(-1, 4, -1, -1))


def test_a_shift_as_large_as_the_window_is_refused() -> None:
    spec = WindowAttention(attention=Attention(heads=2), window=(3, 4), shift=(3, 0))
    with pytest.raises(SpecError, match=r"a shift of \(3, 0\) does not fit windows of \(3, 4\)"):
        spec.build(8, GRID)
