"""ViTs without a class token against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.vit_gap import FAMILY
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "test_vit2",
    "test_vit3",
    "test_vit4",
    "vit_medium_patch16_gap_240",
    "vit_base_patch16_gap_224",
    "vit_wee_patch16_reg1_gap_256",
    "vit_base_patch16_reg4_gap_256",
    "vit_base_patch16_rpn_224",
    "vit_so150m_patch16_reg4_map_256",
    "vit_so150m2_patch16_reg1_gap_256",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name)
