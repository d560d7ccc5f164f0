"""GCViT against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.gcvit import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair


def built_for(size: tuple[int, int], scale: float | None = None) -> Any:
    """timm's and ours, for images of one size: timm's take no other."""
    return pair(FAMILY, "gcvit_xxtiny", {"layer_scale": scale}, {"scale": scale}, img_size=size)


@pytest.mark.parametrize(("size", "scale"), [((224, 224), None), ((320, 320), 1e-5), ((96, 160), 1e-5)])
def test_matches_timm(size: tuple[int, int], scale: float | None) -> None:
    """Its windows, too, are as many whatever the size it is built for."""
    reference, ours = built_for(size, scale)
    assert_matches(ours, reference, [size])


def test_every_parameter_matters() -> None:
    assert_every_parameter_matters(built_for((96, 160), 1e-5)[1], (96, 160), samples=48)
