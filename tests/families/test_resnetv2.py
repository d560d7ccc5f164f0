"""ResNetV2 against timm, in float64: torch's group norm of channels_last maps loses digits in float32."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import torch

from hybridvit.components.convs import MaxPool
from hybridvit.components.transitions import Steps
from hybridvit.encoder import Encoder
from hybridvit.families.resnetv2 import FAMILY, ZeroPad
from hybridvit.spec import Grid, SpecError
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

# BiT; batch norm with basic blocks, and these with a deep stem; bottlenecks with group norm.
CONFIGURATIONS = ("resnetv2_50x1_bit", "resnetv2_18", "resnetv2_18d", "resnetv2_50d_gn")


@functools.cache
def pair(name: str) -> tuple[Any, Encoder]:
    reference = timm.create_model(name, num_classes=11).eval()
    perturb(reference)
    model = FAMILY.model(name).replace(num_classes=11)
    return reference.double(), load_from(reference, model, FAMILY.layouts["timm"](model)).double()


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (97, 66)])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str, size: tuple[int, int]):
    reference, ours = pair(name)
    batch = images(*size).double()
    with torch.no_grad():
        last, maps = reference.forward_intermediates(batch)
        embedding = ours.embed(batch)
        assert error(ours.forward_head(embedding), reference.forward_head(last)) <= TOLERANCE
        assert error(embedding, reference.forward_head(last, pre_logits=True)) <= TOLERANCE
        for actual, expected in zip(ours.features(batch), maps, strict=True):
            assert error(actual, expected) <= TOLERANCE, f"{tuple(expected.shape)}"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_is_not_blind(name: str):
    model = FAMILY.model(name).replace(num_classes=11)
    ours = model.build().eval()
    ours.load_state_dict({key: tensor.float() for key, tensor in pair(name)[1].state_dict().items()})
    assert_power(ours, (64, 64), samples=6)


def test_bit_s_max_pool_sees_zeros_beyond_the_border():
    grid = Grid(5, 4)
    spec = Steps(steps=(ZeroPad(), MaxPool(padding=0)))
    tokens = torch.full((1, 20, 2), -1.0)
    pooled = spec.build(2, grid)(tokens, grid).view(3, 2, 2)
    assert spec.out_grid(grid) == MaxPool().out_grid(grid) == Grid(3, 2)
    assert pooled[1, 1].tolist() == [-1, -1]
    assert pooled[0].eq(0).all()
    assert pooled[:, 0].eq(0).all()
    with pytest.raises(SpecError, match="prefix"):
        ZeroPad().build(2, grid._replace(prefix=1))
