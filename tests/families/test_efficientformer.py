"""EfficientFormer against timm, and in the layout that transformers had."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hybridvit.families.efficientformer import FAMILY
from hybridvit.weights.layouts import layouts_of
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

DIMS: dict[str, Any] = {"dims": (16, 24, 32, 48)}


@pytest.mark.parametrize(("depths", "attending"), [((1, 1, 2, 3), 1), ((1, 2, 1, 2), 2)])
def test_matches_timm(depths: tuple[int, ...], attending: int) -> None:
    """timm runs images of 224 pixels only, whose last map has 7 x 7 positions."""
    theirs = {"embed_dims": DIMS["dims"], "depths": depths, "num_vit": attending}
    reference, ours = pair(FAMILY, "efficientformer_l1", theirs, DIMS | {"depths": depths, "attending": attending})
    assert_matches(ours, reference, [(224, 224)])
    assert_every_parameter_matters(ours, (224, 224))


def test_layout_of_transformers() -> None:
    """Their names of every kind of tensor, and of the stages, which alternate with what is between them."""
    model = FAMILY.build(**DIMS, depths=(1, 1, 1, 3), attending=1).replace(num_classes=5)
    ours = model.build().state_dict()
    rules = layouts_of(FAMILY)["transformers"](model)
    theirs = rules.to_theirs(ours)
    base, last = "efficientformer.encoder", "efficientformer.encoder.last_stage"
    expected = {
        "efficientformer.patch_embed.convolution1.weight",
        "efficientformer.patch_embed.batchnorm_after.running_mean",
        f"{base}.intermediate_stages.0.meta4D_layers.blocks.0.layer_scale_2",
        f"{base}.intermediate_stages.1.projection.bias",
        f"{base}.intermediate_stages.4.meta4D_layers.blocks.0.mlp.batchnorm_before.weight",
        f"{base}.intermediate_stages.5.norm.running_var",
        f"{last}.meta4D_layers.blocks.1.mlp.convolution2.weight",
        f"{last}.meta3D_layers.blocks.0.token_mixer.attention_biases",
        f"{last}.meta3D_layers.blocks.0.token_mixer.attention_bias_idxs",
        f"{last}.meta3D_layers.blocks.0.token_mixer.projection.weight",
        f"{last}.meta3D_layers.blocks.0.layernorm2.bias",
        f"{last}.meta3D_layers.blocks.0.mlp.linear_in.weight",
        "efficientformer.layernorm.weight",
        "classifier.weight",
        "distillation_classifier.bias",
    }
    assert expected <= theirs.keys()
    assert all(torch.equal(tensor, ours[key]) for key, tensor in rules.to_ours(theirs).items())
