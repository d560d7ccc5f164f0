"""LowFormer against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.lowformer import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

# A fourth stage with fewer than 256 channels, and one with more.
NARROW: dict[str, Any] = {"depths": (1, 1, 2, 2, 1), "head_dims": (48, 40)}


@pytest.mark.parametrize(
    ("name", "width"), [("lowformer_b0", 8), ("lowformer_b3", 16), ("lowformer_e2", 8), ("lowformer_e3", 8)]
)
def test_matches_timm(name: str, width: int) -> None:
    theirs = {"depth_list": NARROW["depths"], "head_widths": NARROW["head_dims"], "stem_expand_ratio": 4}
    theirs |= {"width_list": [width << i for i in range(5)]}
    reference, ours = pair(FAMILY, name, theirs, NARROW | {"width": width})
    assert_matches(ours, reference, [(96, 96), (128, 128), (64, 160), (75, 131)])
    assert_every_parameter_matters(ours, (96, 128))
