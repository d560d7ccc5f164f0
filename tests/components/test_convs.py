"""Convolutions on the map."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hybridvit.components import Conv
from hybridvit.spec import Grid
from hybridvit.tokens import map_to_tokens, tokens_to_map


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize("padding", [None, "same"])
def test_strided_1x1_convolution_of_a_few_channels(size: tuple[int, int], padding: None) -> None:
    """Forward and backward; oneDNN's own crashes there."""
    grid = Grid(*size)
    spec = Conv(dim=16, stride=2, padding=padding, bias=True)
    module = spec.build(3, grid)
    tokens = torch.randn(2, grid.tokens, 3, requires_grad=True)
    found = module(tokens, grid)
    weight, bias = module.state_dict()["conv.weight"], module.state_dict()["conv.bias"]
    expected = F.conv2d(tokens_to_map(tokens, grid).contiguous(), weight, bias, stride=2)
    assert spec.out_grid(grid).size == expected.shape[2:]
    torch.testing.assert_close(found, map_to_tokens(expected))
    found.square().sum().backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()
