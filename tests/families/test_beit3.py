"""BEiT-3's image towers against timm."""

from __future__ import annotations

from hybridvit.families.beit3 import FAMILY
from tests.timm_vit import assert_parity_and_power


def test_parity_with_timm() -> None:
    assert_parity_and_power(FAMILY, "beit3_base_patch16_224")
