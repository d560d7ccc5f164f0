"""PiT against timm."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hybridvit.families.pit import FAMILY
from tests.parity import error, images
from tests.timm_staged import TOLERANCE, assert_every_parameter_matters, assert_matches, pair

THEIRS: dict[str, Any] = {"base_dims": (16, 16, 16), "depth": (1, 2, 1), "heads": (2, 4, 8)}
OURS: dict[str, Any] = {"head_dim": 16, "depths": (1, 2, 1), "heads": (2, 4, 8)}


@pytest.mark.parametrize("size", [(96, 96), (128, 128), (72, 160)])
@pytest.mark.parametrize("name", ["pit_ti_224", "pit_b_224"])
def test_matches_timm(name: str, size: tuple[int, int]) -> None:
    """timm runs a model at the size that it is built for only."""
    reference, ours = pair(FAMILY, name, THEIRS, OURS, size)
    assert_matches(ours, reference, [size])
    assert_every_parameter_matters(ours, size)


def test_distilled() -> None:
    """timm's embedding is the mean of both tokens, ours both side by side."""
    size = (96, 128)
    reference, ours = pair(FAMILY, "pit_ti_distilled_224", THEIRS, OURS, size)
    batch = images(*size).double()
    with torch.no_grad():
        assert error(ours(batch), reference(batch)) <= TOLERANCE
        theirs = reference.forward_head(reference.forward_features(batch), pre_logits=True)
        assert error(ours.embed(batch).unflatten(1, (2, -1)).mean(dim=1), theirs) <= TOLERANCE
    assert_every_parameter_matters(ours, size)
