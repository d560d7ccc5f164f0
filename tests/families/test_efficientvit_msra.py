"""EfficientViT of Microsoft against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.efficientvit_msra import FAMILY
from tests.parity import images
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

THEIRS: dict[str, Any] = {"embed_dim": (48, 64, 96), "depth": (1, 2, 1), "num_heads": (2, 4, 3)}
OURS: dict[str, Any] = {"dims": (48, 64, 96), "depths": (1, 2, 1), "heads": (2, 4, 3)}


@pytest.mark.parametrize("name", ["efficientvit_m1", "efficientvit_m3"])
def test_matches_timm(name: str) -> None:
    """At any size: timm pads as ours does, and its windows do not change either."""
    # Without a norm in front of them scores would grow until one key takes all.
    reference, ours = pair(FAMILY, name, THEIRS, OURS, gain=0.5)
    assert_matches(ours, reference, [(224, 224), (256, 256), (96, 160), (75, 131)])
    assert_every_parameter_matters(ours, (224, 224))


def test_maps_are_one_a_head() -> None:
    _, ours = pair(FAMILY, "efficientvit_m1", THEIRS, OURS)
    maps = ours.float().attention_maps(images(64, 64))
    assert len(maps) == 1 * 2 + 2 * 4 + 1 * 3
