"""Twins against timm, which leaves out what fills no patch and so takes other sizes only in multiples of 32."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.twins import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

OURS: dict[str, Any] = {"dims": (16, 32, 48, 64), "depths": (2, 1, 3, 2), "head_dim": 16}


@pytest.mark.parametrize("size", [(96, 96), (160, 160), (64, 288)])
@pytest.mark.parametrize("name", ["twins_pcpvt_small", "twins_svt_small"])
def test_matches_timm(name: str, size: tuple[int, int]) -> None:
    theirs = {"embed_dims": OURS["dims"], "depths": OURS["depths"], "num_heads": (1, 2, 3, 4)}
    reference, ours = pair(FAMILY, name, theirs, OURS, size)
    assert_matches(ours, reference, [size])
    if size[0] != size[1]:
        assert_every_parameter_matters(ours, size)
