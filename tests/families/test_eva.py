"""EVA and EVA-02 against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.eva import FAMILY
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "eva_giant_patch14_224",
    "eva02_tiny_patch14_336",
    "eva02_base_patch14_448",
    "eva02_base_patch16_clip_224",
    "eva02_enormous_patch14_clip_224",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name, depth=1 if FAMILY.model(name).stages[0].enter.out_dim(3) > 1000 else 2)
