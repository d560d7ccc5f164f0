"""RoPE-ViT against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.vit_rope import FAMILY
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "vit_small_patch16_rope_224",
    "vit_small_patch16_rope_mixed_224",
    "vit_small_patch16_rope_ape_224",
    "vit_small_patch16_rope_mixed_ape_224",
    "vit_medium_patch16_rope_reg1_gap_256",
    "vit_mediumd_patch16_rope_reg1_gap_256",
    "vit_betwixt_patch16_rope_reg4_gap_256",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name, depth=1 if FAMILY.model(name).stages[0].enter.out_dim(3) > 1000 else 2)
