"""BEiT-3's image towers against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.beit3 import FAMILY
from tests.timm_vit import assert_parity_and_power, assert_released_shapes


def test_parity_with_timm() -> None:
    assert_parity_and_power(FAMILY, "beit3_base_patch16_224")


@pytest.mark.parametrize("name", FAMILY.sizes)
def test_released_shapes(name: str) -> None:
    assert_released_shapes(FAMILY, name)
