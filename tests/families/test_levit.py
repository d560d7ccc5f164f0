"""LeViT against timm and transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LevitConfig, LevitForImageClassificationWithTeacher

from hybridvit.families import load_family
from hybridvit.weights.layouts import layouts_of
from tests.parity import assert_parity, load_from, perturb
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

LEVIT, CONV = load_family("levit"), load_family("levit_conv")
THEIRS: dict[str, Any] = {"embed_dim": (32, 48, 64), "key_dim": 8, "num_heads": (2, 3, 4), "depth": (1, 2, 1)}
OURS: dict[str, Any] = {"dims": (32, 48, 64), "key_dim": 8, "heads": (2, 3, 4), "depths": (1, 2, 1)}


@pytest.mark.parametrize("size", [(96, 96), (128, 128), (80, 144)])
@pytest.mark.parametrize("name", ["levit_128s", "levit_conv_128s", "levit_384_s8", "levit_512", "levit_conv_512_s8"])
def test_matches_timm(name: str, size: tuple[int, int]) -> None:
    """timm runs a model at the size that it is built for only."""
    reference, ours = pair(CONV if "conv" in name else LEVIT, name, THEIRS, OURS, size)
    assert_matches(ours, reference, [size])


def test_every_parameter_matters() -> None:
    _, ours = pair(LEVIT, "levit_128s", THEIRS, OURS, (160, 192))
    assert_every_parameter_matters(ours, (160, 192))


def test_matches_transformers() -> None:
    config = LevitConfig(
        image_size=64,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4],
        depths=[1, 2, 1],
        key_dim=[8, 8, 8],
        drop_path_rate=0,
        id2label={label: str(label) for label in range(11)},
    )
    config.down_ops = [["Subsample", 8, 4, 4, 2, 2], ["Subsample", 8, 6, 4, 2, 2], [""]]
    reference: Any = LevitForImageClassificationWithTeacher(config)
    perturb(reference.eval())
    model = LEVIT.model("levit_128s", **OURS).replace(img_size=(64, 64), num_classes=11)
    ours = load_from(reference, model, layouts_of(LEVIT)["transformers"](model))
    assert_parity(ours, lambda batch: reference(batch).logits, [(64, 64)])


def test_a_wider_map_has_more_distances() -> None:
    model = LEVIT.model("levit_128s").replace(img_size=(64, 64), num_classes=3).build().eval()
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            parameter.normal_(std=0.05)
        assert torch.isfinite(model(torch.randn(2, 3, 130, 75))).all()
