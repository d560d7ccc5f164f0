"""SigLIP's image towers against timm."""

from __future__ import annotations

import pytest
import torch

from hybridvit.families.vit_siglip import FAMILY
from tests.timm_vit import assert_matches, assert_parity_and_power, pair

# One of each combination of components.
CONFIGURATIONS = [
    "vit_base_patch16_siglip_224",
    "vit_base_patch32_siglip_256",
    "vit_so400m_patch14_siglip_gap_224",
    "vit_base_patch32_siglip_gap_256",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name, depth=1 if "so400m" in name else 2)


@pytest.mark.parametrize("name", ["vit_so400m_patch14_siglip_384", "vit_so400m_patch14_siglip_gap_384"])
def test_border_that_fills_no_patch_is_left_out(name: str) -> None:
    """timm runs these at the size they are built for only."""
    for size in ((84, 84), (75, 131)):
        reference, ours = pair(FAMILY, name, depth=1, img_size=size, dynamic_img_size=False, dynamic_img_pad=False)
        assert_matches(ours, reference, [size])


def test_a_tower_without_attention_pool_may_carry_one() -> None:
    name = "vit_base_patch32_siglip_gap_256"
    reference, ours = pair(FAMILY, name)
    carried = reference.state_dict() | {"attn_pool.latent": torch.zeros(1, 1, 768)}
    assert FAMILY.layouts["timm"](ours.spec).to_ours(carried).keys() == ours.state_dict().keys()
