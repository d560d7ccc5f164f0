"""DaViT against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from hybridvit.encoder import Encoder
from hybridvit.families.davit import FAMILY, ChannelAttention
from hybridvit.spec import Grid, SpecError
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

SMALL: dict[str, Any] = {"dims": (32, 48, 64, 96), "depths": (1, 1, 2, 1), "heads": (1, 3, 4, 6)}


def small_pair(name: str) -> tuple[Encoder, nn.Module]:
    """The model, narrower and with fewer blocks, and timm's, with the same perturbed weights."""
    reference: nn.Module = timm.create_model(
        name, embed_dims=SMALL["dims"], depths=SMALL["depths"], num_heads=SMALL["heads"], num_classes=10
    )
    perturb(reference.eval())
    model = FAMILY.model(name, **SMALL).replace(num_classes=10)
    return load_from(reference, model, FAMILY.layouts["timm"](model)), reference


@pytest.mark.parametrize("name", ["davit_tiny", "davit_base_fl"])
def test_matches_timm(name: str) -> None:
    """At any size, for timm pads as ours does, and windows larger than the map too.

    In double precision: scores between channels are sums over all positions, so large that rounding would show.
    """
    ours, reference = small_pair(name)
    ours.double()
    timms: Any = reference.double()
    with torch.no_grad():
        for size in [(224, 224), (256, 256), (128, 224), (75, 131), (32, 32)]:
            batch = images(*size).double()
            last, maps = timms.forward_intermediates(batch)
            assert error(ours(batch), timms.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), timms.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


@pytest.mark.parametrize("name", ["davit_tiny", "davit_base_fl"])
def test_every_parameter_matters(name: str) -> None:
    ours, _ = small_pair(name)
    assert_power(ours, (96, 96), samples=24)


def test_maps_are_of_positions_and_of_channels() -> None:
    ours, _ = small_pair("davit_tiny")
    maps = ours.attention_maps(images(64, 64))
    assert len(maps) == 2 * sum(SMALL["depths"])
    between_channels = [weights for name, weights in maps.items() if ".branches.1." not in name]
    assert all(weights.shape[0] == 3 and weights.shape[2] == weights.shape[3] for weights in between_channels)
    assert len(between_channels) == sum(SMALL["depths"])
    with pytest.raises(SpecError, match="5 heads do not divide width 64"):
        ChannelAttention(heads=5).build(64, Grid(4, 4))


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("davit_*"))
