"""Perception Encoder against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.vit_pe import FAMILY
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "vit_pe_core_tiny_patch16_384",
    "vit_pe_core_gigantic_patch14_448",
    "vit_pe_lang_large_patch14_448",
    "vit_pe_lang_gigantic_patch14_448",
    "vit_pe_spatial_tiny_patch16_512",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name, depth=1 if FAMILY.model(name).stages[0].enter.out_dim(3) > 1000 else 2)
