"""MobileNetV4 against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.mobilenetv4 import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

# More, and what residual blocks add up to leaves no weight to what the last ones are moved by.
GAIN = 0.7
# timm drops the odd row or column where it pools.
EVEN = [(64, 64), (96, 96), (64, 128)]


@pytest.mark.parametrize("name", ["hybrid_medium_075", "hybrid_large_075", "conv_small_035", "conv_aa_medium"])
def test_matches_timm(name: str) -> None:
    reference, ours = pair(FAMILY, f"mobilenetv4_{name}", {}, {}, gain=GAIN)
    assert_matches(ours, reference, EVEN if "aa" in name else [*EVEN, (75, 101)])
    assert_every_parameter_matters(ours, (64, 96), samples=12)
