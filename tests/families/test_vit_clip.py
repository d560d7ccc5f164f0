"""CLIP's image towers against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.vit_clip import FAMILY
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "vit_xsmall_patch16_clip_224",
    "vit_base_patch32_clip_quickgelu_224",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name)
