"""ViTs of differential attention against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.vit_diff import FAMILY
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "vit_dwee_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    """Products of these parameters are added up and raised to a power."""
    assert_parity_and_power(FAMILY, name, temper=("lambda_",))
