"""Visformer against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.visformer import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

THEIRS: dict[str, Any] = {"init_channels": 8, "embed_dim": 48, "depth": (2, 1, 2)}
OURS: dict[str, Any] = {"stem": 8, "dim": 48, "depths": (2, 1, 2)}


@pytest.mark.parametrize("size", [(96, 96), (128, 128), (64, 160)])
def test_matches_timm(size: tuple[int, int]) -> None:
    """timm runs a model at the size that it is built for only."""
    reference, ours = pair(FAMILY, "visformer_tiny", THEIRS, OURS, size)
    assert_matches(ours, reference, [size])
    assert_every_parameter_matters(ours, size)
