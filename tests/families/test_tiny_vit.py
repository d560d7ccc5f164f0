"""TinyViT against timm."""

from __future__ import annotations

from typing import Any

from hybridvit.families.tiny_vit import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

SMALL: dict[str, Any] = {"depths": (1, 1, 2, 1)}
THEIRS = SMALL | {"embed_dims": (16, 24, 32, 48), "num_heads": (1, 2, 2, 3)}
OURS = SMALL | {"dims": (16, 24, 32, 48), "heads": (1, 2, 2, 3)}


def test_matches_timm() -> None:
    """At any size: timm pads as ours does, and its windows do not change either."""
    reference, ours = pair(FAMILY, "tiny_vit_5m_224", THEIRS, OURS)
    assert_matches(ours, reference, [(224, 224), (256, 256), (96, 160), (75, 131)])


def test_every_parameter_matters() -> None:
    _, ours = pair(FAMILY, "tiny_vit_5m_224", THEIRS, OURS)
    assert_every_parameter_matters(ours, (224, 224))
