"""ViT_C against torchvision's ViT with a convolutional stem, and against the numbers of its paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

from hybridvit.encoder import Encoder
from hybridvit.families.vit_c import FAMILY, vit_c
from hybridvit.registry import index
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_parity, assert_power, error, images, load_from, perturb

DEPTH, DIM, HEADS, MLP_RATIO = 2, 48, 3, 3
# Widths as in the stems of the paper's small and large models: each convolution widens, or only some do.
STEMS = {"small": (8, 16, 24, 48), "large": (8, 16, 16, 32, 32, 64)}


def pair(stem: tuple[int, ...], size: int) -> tuple[VisionTransformer, Encoder]:
    widens = [index == 0 or width != stem[index - 1] for index, width in enumerate(stem)]
    reference = VisionTransformer(
        image_size=size,
        patch_size=16,
        num_layers=DEPTH,
        num_heads=HEADS,
        hidden_dim=DIM,
        mlp_dim=MLP_RATIO * DIM,
        num_classes=11,
        conv_stem_configs=[ConvStemConfig(width, 3, 1 + first) for width, first in zip(stem, widens, strict=True)],
    ).eval()
    perturb(reference)
    model = vit_c(stem=stem, dim=DIM, depth=DEPTH, heads=HEADS, mlp_ratio=MLP_RATIO)
    model = model.replace(img_size=(size, size), num_classes=11)
    return reference, load_from(reference, model, layouts_of(FAMILY)["torchvision"](model))


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("stem", list(STEMS))
def test_parity_with_torchvision(stem: str, size: int):
    reference, ours = pair(STEMS[stem], size)
    assert_parity(ours, reference, [(size, size)])
    assert_power(ours, (size, size))


@pytest.mark.parametrize("stem", list(STEMS))
def test_stem_is_torchvision_s_at_any_size(stem: str):
    """torchvision's ViT takes the size that it was built for only; its stem takes any."""
    reference, ours = pair(STEMS[stem], 64)
    layers = list(reference.conv_proj.children())
    assert isinstance(reference.conv_proj, nn.Sequential)
    batch = images(75, 131)
    expected, map_ = {}, batch
    with torch.no_grad():
        for layer in layers[:-1]:
            map_ = layer(map_)
            expected[tuple(map_.shape[2:])] = map_
        *maps, last = ours.features(batch)
        for actual, its in zip(maps, list(expected.values()), strict=False):
            assert error(actual, its) <= TOLERANCE
    assert len(maps) == len(expected) - 1 == 3
    assert last.shape == (3, DIM, 5, 9)


# Table 1 of the paper: parameters in millions.
PAPER = {"vitc_1gf": 4.6, "vitc_4gf": 17.8, "vitc_18gf": 81.6, "vitc_36gf": 167.8}


@pytest.mark.parametrize("name", list(PAPER))
def test_parameters_are_the_papers(name: str):
    model: Any = FAMILY.model(name)
    assert round(index()[name].params / 1e6, 1) == PAPER[name]
    with torch.device("meta"):
        encoder = model.build()
    assert [info.stride for info in encoder.feature_info] == [2, 4, 8, 16]
