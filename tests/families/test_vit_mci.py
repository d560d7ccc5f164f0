"""MobileCLIP's ViT against timm, in float64."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families.vit_mci import FAMILY
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

DEPTH = 2


@functools.cache
def pair() -> tuple[Any, Encoder]:
    """Both with two transformer blocks."""
    reference: Any = timm.create_model(
        "vit_base_mci_224", depth=DEPTH, num_classes=11, img_size=128, dynamic_img_size=True
    ).eval()
    perturb(reference)
    perturb(reference.patch_embed.backbone)  # by itself, for its names have "embed" in them here
    model = FAMILY.model("vit_base_mci_224").replace(num_classes=11, img_size=(128, 128))
    *stem, trunk = model.stages
    model = model.replace(stages=(*stem, trunk.replace(blocks=trunk.blocks[:DEPTH])))
    return reference.double(), load_from(reference, model, FAMILY.layouts["timm"](model)).double()


@pytest.mark.parametrize("size", [(128, 128), (160, 160), (96, 160)])
def test_matches_timm(size: tuple[int, int]) -> None:
    reference, ours = pair()
    batch = images(*size).double()
    with torch.no_grad():
        stem = reference.patch_embed.backbone
        first = stem[0](batch)
        expected = [first, stem[1](first)]
        *maps, last = ours.features(batch)
        for found, its in zip(maps, expected, strict=True):
            assert error(found, its) <= TOLERANCE
        final, intermediates = reference.forward_intermediates(batch)
        assert error(last, intermediates[-1]) <= TOLERANCE
        embedding = ours.embed(batch)
        assert error(embedding, reference.forward_head(final, pre_logits=True)) <= TOLERANCE
        assert error(ours(batch), reference(batch)) <= TOLERANCE


def test_every_parameter_matters() -> None:
    assert_power(pair()[1], (96, 128))
