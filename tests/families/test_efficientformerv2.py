"""EfficientFormerV2 against timm."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hybridvit.components import Conv, Steps
from hybridvit.families.efficientformerv2 import FAMILY, Coarsely
from hybridvit.spec import Grid
from tests.parity import assert_power
from tests.timm_staged import TOLERANCE, assert_matches, pair

DIMS = (16, 24, 32, 48)
OURS: dict[str, Any] = {"dims": DIMS, "ratios": ("4", "44", "434", "34"), "attending": 1}
THEIRS: dict[str, Any] = {
    "embed_dims": DIMS,
    "depths": (1, 2, 3, 2),
    "num_vit": 1,
    "mlp_ratios": (4, 4, (4, 3, 4), (3, 4)),
}
# A score that is the same for all keys: the softmax cancels it.
IMMATERIAL = ("key.conv.bias", "key.norm.bias", "before.bias")


@pytest.mark.parametrize("size", [(128, 128), (224, 224), (64, 160)])
def test_matches_timm(size: tuple[int, int]) -> None:
    """timm runs a model at the size that it is built for only, and none whose map at stride 16 has odd sides."""
    reference, ours = pair(FAMILY, "efficientformerv2_s0", THEIRS, OURS, size)
    assert_matches(ours, reference, [size])


def test_every_attending_block_matches_timm() -> None:
    theirs = THEIRS | {"num_vit": 2}
    reference, ours = pair(FAMILY, "efficientformerv2_s0", theirs, OURS | {"attending": 2}, (96, 96))
    assert_matches(ours, reference, [(96, 96)])


def test_every_parameter_matters() -> None:
    _, ours = pair(FAMILY, "efficientformerv2_s0", THEIRS, OURS, (128, 160))
    assert_power(ours, (128, 160), samples=40, immaterial=IMMATERIAL, tolerance=TOLERANCE)


def test_an_odd_map_is_stretched_like_an_even_one() -> None:
    """A row and a column of zeros more change nothing but the border that they are."""
    body = Conv(dim=4, kernel=3, stride=2, groups=4, bias=True)
    coarsely = Coarsely(body=Steps(steps=(body,)))
    odd, even = Grid(5, 7), Grid(6, 8)
    assert coarsely.out_grid(odd) == odd
    tokens = torch.randn(2, odd.tokens, 4)
    padded = torch.nn.functional.pad(tokens.unflatten(1, odd.size), (0, 0, 0, 1, 0, 1)).flatten(1, 2)
    module = coarsely.build(4, odd)
    whole = module(padded, even).unflatten(1, even.size)[:, :5, :7].flatten(1, 2)
    torch.testing.assert_close(module(tokens, odd), whole)
