"""Lambda ResNet against timm."""

from __future__ import annotations

import pytest

from hybridvit.families.lambda_resnet import FAMILY
from tests.families.test_botnet import Size, byob_pair
from tests.timm_staged import assert_every_parameter_matters, assert_matches

GAIN = 0.7  # a lambda layer multiplies two functions of its input, which soon gets out of hand


def test_neighbourhoods_match_timm_at_any_size() -> None:
    reference, ours = byob_pair(FAMILY, "lambda_resnet26t", (256, 256), gain=GAIN)
    assert_matches(ours, reference, [(256, 256), (320, 320), (64, 160)])
    assert_every_parameter_matters(ours, (128, 160))


@pytest.mark.parametrize("size", [(256, 256), (320, 320), (128, 224)])
def test_tables_match_timm(size: Size) -> None:
    """timm's fit the one size that they were built for."""
    reference, ours = byob_pair(FAMILY, "lambda_resnet26rpt_256", size, gain=GAIN)
    assert_matches(ours, reference, [size])


@pytest.mark.parametrize(("name", "size"), [("lambda_resnet50ts", (96, 128)), ("lamhalobotnet50ts_256", (256, 256))])
def test_the_deeper_ones_match_timm(name: str, size: Size) -> None:
    reference, ours = byob_pair(FAMILY, name, size, gain=GAIN)
    assert_matches(ours, reference, [size])


@pytest.mark.parametrize("name", ["lambda_resnet26rpt_256", "lamhalobotnet50ts_256"])
def test_every_parameter_matters(name: str) -> None:
    assert_every_parameter_matters(byob_pair(FAMILY, name, (128, 160), gain=GAIN)[1], (128, 160), samples=16)
