"""iFormer against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.iformer import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

OURS: dict[str, Any] = {"dims": (16, 24, 32, 48), "depths": (1, 2, 9, 4), "groups": (0, 0, 2, 1)}


@pytest.mark.parametrize("name", ["iformer_t", "iformer_h", "iformer_m_distilled"])
def test_matches_timm(name: str) -> None:
    theirs = {"dims": OURS["dims"], "depths": OURS["depths"], "attn_groups": OURS["groups"]}
    reference, ours = pair(FAMILY, name, theirs, OURS)
    assert_matches(ours, reference, [(96, 96), (160, 160), (64, 160), (75, 131)])
    assert_every_parameter_matters(ours, (96, 128))
