"""Hiera against timm, which takes only sizes that it was built for, multiples of 32."""

from __future__ import annotations

from typing import Any

import pytest

from hybridvit.families.hiera import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (160, 288)])
@pytest.mark.parametrize("name", ["hiera_tiny_224", "hiera_small_abswin_256", "hiera_base_abswin_256"])
def test_matches_timm(name: str, size: tuple[int, int]) -> None:
    depths = (1, 2, 2, 2)
    ours: dict[str, Any] = {"dim": 16, "depths": depths, "heads": 2}
    reference, model = pair(FAMILY, name, {"embed_dim": 16, "num_heads": 2, "stages": depths}, ours, size)
    tolerance = 1e-5 if "abswin" in name else 1e-6  # tables are resized in single precision
    assert_matches(model, reference, [size], tolerance)
    if size[0] != size[1]:
        assert_every_parameter_matters(model, size, tolerance=tolerance)
