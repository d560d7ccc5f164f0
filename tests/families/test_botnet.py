"""BoTNet against timm."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hybridvit.encoder import Encoder
from hybridvit.families import Family
from hybridvit.families.botnet import FAMILY
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair

Size = tuple[int, int]
# timm rounds what squeeze-and-excitation reduces to up to eight, and the widths of a RegNetZ to its groups.
ROUNDED = {"sebotnet33ts_256", "sehalonet33ts", "haloregnetz_b"}


def byob_pair(
    family: Family,
    name: str,
    size: Size,
    theirs: dict[str, Any] | None = None,
    ours: dict[str, Any] | None = None,
    gain: float = 1.0,
) -> tuple[Any, Encoder]:
    """timm's model and ours built for a size; the last map of timm's is in front of the head's convolution, as ours.

    Both are a fourth as wide, but for those that round widths inside: convolutions in double precision take long.
    """
    by = 1 if name in ROUNDED else 4
    theirs = {"width_factor": 1 / by} | (theirs or {})
    reference, encoder = pair(family, name, theirs, ours or {}, img_size=size, gain=gain, narrower=by)
    reference.forward_intermediates = partial(reference.forward_intermediates, exclude_final_conv=True)
    return reference, encoder


@pytest.mark.parametrize("size", [(256, 256), (160, 160), (128, 224), pytest.param((320, 320), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["botnet26t_256", "sebotnet33ts_256", "eca_botnext26ts_256"])
def test_matches_timm(name: str, size: Size) -> None:
    """timm's tables fit the one size that they were built for."""
    reference, ours = byob_pair(FAMILY, name, size)
    assert_matches(ours, reference, [size])


def test_the_deeper_one_matches_timm() -> None:
    reference, ours = byob_pair(FAMILY, "botnet50ts_256", (96, 128))
    assert_matches(ours, reference, [(96, 128)])


@pytest.mark.parametrize("name", ["botnet26t_256", "sebotnet33ts_256", "eca_botnext26ts_256"])
def test_every_parameter_matters(name: str) -> None:
    assert_every_parameter_matters(byob_pair(FAMILY, name, (128, 160))[1], (128, 160))
