"""SwiftFormer against timm."""

from __future__ import annotations

from typing import Any

from hybridvit.families.swiftformer import FAMILY
from tests.parity import images
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

OURS: dict[str, Any] = {"dims": (16, 24, 32, 48), "depths": (2, 1, 2, 1)}


def test_matches_timm() -> None:
    reference, ours = pair(FAMILY, "swiftformer_xs", {"embed_dims": OURS["dims"], "layers": OURS["depths"]}, OURS)
    assert_matches(ours, reference, [(96, 96), (128, 128), (64, 160), (75, 131)])
    assert_every_parameter_matters(ours, (96, 128))


def test_additive_attention_has_no_map() -> None:
    assert FAMILY.build(**OURS).build().attention_maps(images(64, 64)) == {}
