from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families.vit import FAMILY
from tests.parity import assert_parity, assert_power, error, images, load_from, perturb

# One of each combination of components: class token, layer scale, registers, mean pooling, norm before the blocks.
CONFIGURATIONS = [
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch32_clip_224",
    "vit_base_patch16_reg4_gap_256",
    "vit_medium_patch16_reg4_gap_256",
]


def built_size(name: str) -> int:
    """A small square that the model's patch divides."""
    return 8 * FAMILY.sizes[name]["patch"] if "patch32" not in name else 128


def pair(name: str, depth: int = 3, classes: int = 11) -> tuple[Any, Encoder]:
    """timm's model and ours with the same perturbed weights, a few blocks deep."""
    size = built_size(name)
    reference = timm.create_model(
        name, depth=depth, num_classes=classes, img_size=size, dynamic_img_size=True, dynamic_img_pad=True
    ).eval()
    perturb(reference)
    model = FAMILY.model(name)
    stage = model.stages[0]
    first = int(not stage.blocks[0].branches[0].residual)
    model = model.replace(
        stages=(stage.replace(blocks=stage.blocks[: depth + first]),), img_size=(size, size), num_classes=classes
    )
    return reference, load_from(reference, model, FAMILY.layouts["timm"](model))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str):
    reference, ours = pair(name)
    size = built_size(name)
    sizes = [(size, size), (192, 192), (112, 176), (75, 131)]
    assert_parity(ours, reference, sizes)
    assert_parity(ours.embed, lambda x: reference.forward_head(reference.forward_features(x), pre_logits=True), sizes)
    batch = images(112, 176)
    with torch.no_grad():
        expected = reference.forward_intermediates(batch, indices=[2], intermediates_only=True)[0]
        assert error(ours.features(batch)[0], expected) < 1e-4
    assert_power(ours, (size, size))


def test_a_released_size_is_timm_s_to_the_last_key():
    """Full depth, default size and default arguments, without any change of the spec."""
    reference = timm.create_model("vit_tiny_patch16_224").eval()
    perturb(reference)
    model = FAMILY.model("vit_tiny_patch16_224")
    ours = load_from(reference, model, FAMILY.layouts["timm"](model))
    assert_parity(ours, reference, [(224, 224)])


@pytest.mark.parametrize("name", list(FAMILY.sizes))
def test_released_shapes_fit(name: str):
    """Every size takes timm's keys and shapes for it."""
    model = FAMILY.model(name)
    with torch.device("meta"):
        reference: Any = timm.create_model(name, num_classes=model.num_classes)
        ours = model.build()
        ours.load_state_dict(FAMILY.layouts["timm"](model).to_ours(reference.state_dict()), assign=True)
    assert model.img_size == reference.patch_embed.img_size
