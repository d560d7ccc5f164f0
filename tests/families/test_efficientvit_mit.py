"""EfficientViT of MIT against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.components.linear_attention import ScaledLinearAttention
from hybridvit.components.norms import BatchNorm
from hybridvit.families.efficientvit_mit import FAMILY
from hybridvit.spec import Grid, SpecError
from tests.parity import images
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

SMALL: dict[str, Any] = {"depths": (1, 2, 2, 1, 2), "head_dim": 8}
THEIRS = SMALL | {"widths": (8, 16, 16, 24, 32), "head_widths": (48, 40)}
OURS = SMALL | {"dims": (8, 16, 16, 24, 32), "head_dims": (48, 40)}


# timm's attention is in single precision at all times.
SINGLE = 1e-4


@pytest.mark.parametrize("name", ["efficientvit_b1", "efficientvit_l1"])
def test_matches_timm(name: str) -> None:
    reference, ours = pair(FAMILY, name, THEIRS, OURS)
    assert_matches(ours, reference, [(96, 96), (128, 128), (64, 160), (75, 131)], SINGLE)
    assert_every_parameter_matters(ours, (96, 128), tolerance=SINGLE)


def test_maps_are_the_shares_of_linear_attention() -> None:
    _, ours = pair(FAMILY, "efficientvit_b1", THEIRS, OURS)
    maps = ours.float().attention_maps(images(64, 64))
    assert maps
    assert all(weights.shape[2] == weights.shape[3] in (1, 4, 16) for weights in maps.values())
    with pytest.raises(SpecError, match="heads of 16 channels do not divide width 24"):
        ScaledLinearAttention(head_dim=16, norm=BatchNorm()).build(24, Grid(4, 4))
