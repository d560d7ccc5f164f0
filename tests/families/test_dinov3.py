"""DINOv3 against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.dinov3 import FAMILY
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "vit_small_patch16_dinov3",
    "vit_tiny_patch16_dinov3_qkvb",
    "vit_small_plus_patch16_dinov3",
    "vit_small_plus_patch16_dinov3_qkvb",
    "vit_small_patch16_lingbot",
    "vit_giant_patch16_lingbot",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name, depth=1 if FAMILY.model(name).stages[0].enter.out_dim(3) > 1000 else 2)
