"""ViTamin against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.families.vitamin import FAMILY
from tests.parity import TOLERANCE, assert_power, error, features_and_embedding, images, load_from, perturb


@pytest.mark.parametrize("name", ["vitamin_small_224", "vitamin_xlarge_256"])
def test_matches_timm(name: str) -> None:
    """With two transformer blocks."""
    for size in ((96, 96), (64, 160)):
        reference: Any = timm.create_model(name, depth=2, num_classes=11, img_size=size)
        perturb(reference.eval())
        model = FAMILY.model(name).replace(img_size=size, num_classes=11)
        trunk = model.stages[3].replace(blocks=model.stages[3].blocks[:2])
        model = model.replace(stages=(*model.stages[:3], trunk))
        ours = load_from(reference, model, FAMILY.layouts["timm"](model))
        batch = images(*size)
        with torch.no_grad():
            last, maps = reference.forward_intermediates(batch, indices=1)
            features, embedding = features_and_embedding(ours, batch)
            assert error(features[-1], maps[0]) <= TOLERANCE
            assert error(embedding, reference.forward_head(last, pre_logits=True)) <= TOLERANCE
            assert error(ours(batch), reference(batch)) <= TOLERANCE
            backbone = reference.patch_embed.backbone
            assert error(features[1], backbone.stages[0](backbone.stem(batch))) <= TOLERANCE
    assert_power(ours, (64, 160), samples=16)
