"""ViT against timm."""

from __future__ import annotations

import pytest
import timm

from hybridvit.families.vit import FAMILY
from tests.parity import assert_parity, load_from, perturb
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "test_vit",
    "vit_small_patch32_224",
    "vit_base_patch16_224_miil",
    "vit_base_patch32_plus_256",
    "flexivit_small",
    "eva_large_patch14_196",
    "vit_intern300m_patch14_448",
    "vit_base_patch16_radio_v3",
    "vit_so400m_patch16_radio_v4",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name, depth=1 if FAMILY.model(name).stages[0].enter.out_dim(3) > 1000 else 2)


def test_a_released_size_is_timm_s_to_the_last_key() -> None:
    """Full depth, default size and default arguments, without any change of the spec."""
    reference = timm.create_model("vit_tiny_patch16_224").eval()
    perturb(reference)
    model = FAMILY.model("vit_tiny_patch16_224")
    ours = load_from(reference, model, FAMILY.layouts["timm"](model))
    assert_parity(ours, reference, [(224, 224)])
