"""AIMv2 against timm."""

from __future__ import annotations

from hybridvit.families.aimv2 import FAMILY
from tests.timm_vit import assert_parity_and_power


def test_parity_with_timm() -> None:
    assert_parity_and_power(FAMILY, "aimv2_large_patch14_224")
