from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families.deit import FAMILY
from hybridvit.meta import without_memory
from tests.parity import assert_parity, assert_power, load_from, perturb


def pair(name: str, depth: int = 3) -> tuple[Any, Encoder]:
    reference = timm.create_model(name, depth=depth, num_classes=11, dynamic_img_size=True, dynamic_img_pad=True).eval()
    perturb(reference)
    model = FAMILY.model(name)
    stage = model.stages[0]
    model = model.replace(stages=(stage.replace(blocks=stage.blocks[:depth]),), num_classes=11)
    return reference, load_from(reference, model, FAMILY.layouts["timm"](model))


@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"]
)
def test_parity_with_timm(name: str):
    reference, ours = pair(name)
    assert_parity(ours, reference, [(224, 224), (256, 256), (112, 176), (75, 131)])
    assert_power(ours, (112, 112))


def test_distilled_embedding_holds_both_tokens():
    """Ours keeps class and distillation token side by side; timm's pre-logits are their mean."""
    reference, ours = pair("deit_tiny_distilled_patch16_224")
    assert ours.num_features == 2 * 192

    def mean(images: torch.Tensor) -> torch.Tensor:
        class_token, distillation_token = ours.embed(images).chunk(2, dim=1)
        return (class_token + distillation_token) / 2

    assert_parity(mean, lambda x: reference.forward_head(reference.forward_features(x), pre_logits=True), [(96, 128)])


@pytest.mark.parametrize("name", list(FAMILY.sizes))
def test_released_shapes_fit(name: str):
    model = FAMILY.model(name)
    with without_memory():
        reference, ours = timm.create_model(name), model.build()
        ours.load_state_dict(FAMILY.layouts["timm"](model).to_ours(reference.state_dict()), assign=True)
