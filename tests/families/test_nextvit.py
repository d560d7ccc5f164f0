"""Next-ViT against timm."""

from __future__ import annotations

import torch

from hybridvit.families.nextvit import FAMILY, Runs
from hybridvit.spec import Grid
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair


def test_matches_timm() -> None:
    """At sizes whose maps have at least one run of each length; timm has no keys below."""
    reference, ours = pair(FAMILY, "nextvit_small", {"depths": (3, 4, 5, 3)}, {"depth": 5})
    assert_matches(ours, reference, [(96, 96), (128, 128), (64, 160), (75, 131)])
    assert_every_parameter_matters(ours, (96, 128), samples=16)


def test_runs() -> None:
    """Whole ones alone, and at least one."""
    tokens = torch.arange(11.0).reshape(1, 11, 1)
    for length, means in ((4, [1.5, 5.5]), (11, [5.0]), (64, [5.0])):
        runs = Runs(length=length)
        found = runs.build(1, Grid(1, 11))(tokens, Grid(1, 11))
        assert found.flatten().tolist() == means
        assert runs.out_grid(Grid(1, 11)).tokens == len(means)
