"""SHViT against timm."""

from __future__ import annotations

from typing import Any

from hybridvit.families.shvit import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

OURS: dict[str, Any] = {"dims": (32, 40, 48), "parts": (0, 12, 16), "depths": (1, 2, 1)}


def test_matches_timm() -> None:
    theirs = {"embed_dim": OURS["dims"], "partial_dim": OURS["parts"], "depth": OURS["depths"]}
    reference, ours = pair(FAMILY, "shvit_s1", theirs, OURS)
    assert_matches(ours, reference, [(96, 96), (160, 160), (64, 160), (75, 131)])
    assert_every_parameter_matters(ours, (96, 128))
