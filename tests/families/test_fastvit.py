"""FastViT against timm."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.fastvit import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

SMALLER: dict[str, dict[str, Any]] = {
    "fastvit_t8": {"dims": (16, 32, 64, 128), "depths": (2, 1, 1, 1)},
    "fastvit_sa12": {"dims": (16, 32, 64, 128), "depths": (2, 1, 1, 1)},
    "fastvit_mci0": {"dims": (16, 32, 64, 128), "depths": (1, 2, 1, 1)},
    "fastvit_mci3": {"dims": (16, 32, 64, 128, 256), "depths": (1, 1, 1, 2, 1)},
}


@pytest.mark.parametrize("name", SMALLER)
def test_matches_timm(name: str) -> None:
    ours = SMALLER[name]
    reference, model = pair(FAMILY, name, {"embed_dims": ours["dims"], "layers": ours["depths"]}, ours)
    assert_matches(model, reference, [(96, 96), (160, 160), (64, 160), (75, 131)])
    assert_every_parameter_matters(model, (96, 128), tolerance=1e-7)
