"""EdgeNeXt against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm

from hybridvit.families.edgenext import FAMILY
from tests.parity import assert_power, images
from tests.timm_staged import assert_matches, pair

EXACT = 1e-6  # positions are in single precision
NAMES = ["edgenext_xx_small", "edgenext_small_rw"]
SMALL: dict[str, Any] = {"dims": (24, 48, 96, 192), "depths": (1, 2, 2, 3)}


def small_pair(name: str) -> tuple[Any, Any]:
    """Both versions, with filters in front of attention that split the channels evenly, and not."""
    numbers = SMALL if name == "edgenext_small_rw" else SMALL | {"dims": (24, 48, 88, 168)}
    return pair(FAMILY, name, numbers, numbers)


@pytest.mark.parametrize("name", NAMES)
def test_matches_timm(name: str) -> None:
    """At any size, for both drop what patches do not cover."""
    reference, ours = small_pair(name)
    assert_matches(ours, reference, [(256, 256), (96, 64), (75, 131), (97, 66)], EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_matters(name: str) -> None:
    _, ours = small_pair(name)
    assert_power(ours, (64, 96), samples=24, tolerance=EXACT)


def test_maps_are_of_channels() -> None:
    _, ours = small_pair("edgenext_xx_small")
    maps = ours.attention_maps(images(64, 64).double())
    assert maps
    assert all(weights.shape[2] == weights.shape[3] for weights in maps.values())


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("edgenext_*"))
