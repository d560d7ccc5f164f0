"""XCiT against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families.xcit import FAMILY
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb


def pair(name: str) -> tuple[Any, Encoder]:
    reference: Any = timm.create_model(name, depth=2, embed_dim=64, num_classes=11)
    perturb(reference.eval())
    model = FAMILY.model(name, dim=64, depth=2).replace(num_classes=11)
    return reference, load_from(reference, model, FAMILY.layouts["timm"](model))


@pytest.mark.parametrize("name", ["xcit_nano_12_p16_224", "xcit_tiny_12_p8_224", "xcit_tiny_24_p16_224"])
def test_matches_timm(name: str) -> None:
    """At any size, for timm's has no table. The map that timm shows is the one before class attention."""
    reference, ours = pair(name)
    reference, ours = reference.double(), ours.double()
    with torch.no_grad():
        for size in ((96, 96), (128, 128), (80, 144), (75, 131)):
            batch = images(*size).double()
            last, maps = reference.forward_intermediates(batch, indices=1)
            first, grid = ours.stages[0](batch.permute(0, 2, 3, 1).flatten(1, 2), _grid(size))
            assert error(first.unflatten(1, grid.size).permute(0, 3, 1, 2), maps[0]) <= TOLERANCE, size
            assert error(ours.embed(batch), reference.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            assert error(ours(batch), reference(batch)) <= TOLERANCE, size


def _grid(size: tuple[int, int]) -> Any:
    from hybridvit.spec import Grid

    return Grid(*size)


@pytest.mark.parametrize("name", ["xcit_nano_12_p16_224", "xcit_tiny_24_p16_224"])
def test_every_parameter_matters(name: str) -> None:
    assert_power(pair(name)[1], (64, 96), samples=24)


def test_maps_are_of_channels_and_of_the_class_token() -> None:
    """Attention between channels has weights of pairs of channels."""
    _, ours = pair("xcit_nano_12_p16_224")
    maps = ours.attention_maps(images(64, 96))
    last = ["stages.1.blocks.0.branches.0.mixer", "stages.1.blocks.1.branches.0.mixer"]
    assert all(maps.pop(name).shape == (3, 4, 1, 1 + 4 * 6) for name in last)
    assert maps
    assert all(weights.shape == (3, 4, 16, 16) for weights in maps.values())
