"""RepViT against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.repvit import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

OURS: dict[str, Any] = {"dims": (16, 24, 40, 48), "depths": (2, 2, 4, 2)}


@pytest.mark.parametrize("name", ["repvit_m1", "repvit_m0_9"])
def test_matches_timm(name: str) -> None:
    reference, ours = pair(FAMILY, name, {"embed_dim": OURS["dims"], "depth": OURS["depths"]}, OURS)
    assert_matches(ours, reference, [(96, 96), (160, 160), (64, 160), (75, 131)])
    assert_every_parameter_matters(ours, (96, 128))
