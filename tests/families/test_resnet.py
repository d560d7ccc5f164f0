"""ResNet against timm and torchvision."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from hybridvit.encoder import Encoder
from hybridvit.families.resnet import FAMILY
from hybridvit.spec import Grid
from tests.parity import TOLERANCE, assert_parity, assert_power, error, images, load_from, perturb

# Basic blocks and bottlenecks; one convolution or three in the stem, with plain or pooled shortcuts.
CONFIGURATIONS = ("resnet18", "resnet26", "resnet18d", "resnet26d")


@functools.cache
def pair(name: str) -> tuple[Any, Encoder]:
    reference = timm.create_model(name, num_classes=11).eval()
    perturb(reference)
    model = FAMILY.model(name).replace(num_classes=11)
    return reference, load_from(reference, model, FAMILY.layouts["timm"](model))


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (97, 66)])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str, size: tuple[int, int]):
    reference, ours = pair(name)
    batch = images(*size)
    with torch.no_grad():
        last, maps = reference.forward_intermediates(batch)
        embedding = ours.embed(batch)
        assert error(ours.forward_head(embedding), reference.forward_head(last)) <= TOLERANCE
        assert error(embedding, reference.forward_head(last, pre_logits=True)) <= TOLERANCE
        for actual, expected in zip(ours.features(batch), maps, strict=True):
            assert error(actual, expected) <= TOLERANCE, f"{tuple(expected.shape)}"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_is_not_blind(name: str):
    reference, ours = pair(name)
    assert_parity(ours, reference, [(64, 64)])
    assert_power(ours, (64, 64))


def test_torchvision_has_the_same_layout():
    reference: nn.Module = torchvision.models.resnet18().eval()
    perturb(reference)
    model = FAMILY.model("resnet18")
    assert_parity(load_from(reference, model, FAMILY.layouts["timm"](model)), reference, [(64, 96)])


def test_a_new_bottleneck_starts_as_identity():
    """The last norm of a body starts at zero, so that a fresh network is as shallow as it can be."""
    stage: Any = FAMILY.model("resnet26").build().eval().stages[2]
    tokens = torch.rand(1, 12, 256)
    assert torch.equal(stage.blocks[0](tokens, Grid(3, 4)), tokens)
