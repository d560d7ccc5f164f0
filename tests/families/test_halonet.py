"""HaloNet against timm, whose maps must be whole windows."""

from __future__ import annotations

import pytest

from hybridvit.families.halonet import FAMILY, HALO2, halo
from tests.families.test_botnet import Size, byob_pair
from tests.timm_staged import assert_every_parameter_matters, assert_matches


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("halonet26t", (256, 256)),
        ("sehalonet33ts", (256, 256)),
        ("eca_halonext26ts", (256, 512)),
        ("halonet50ts", (256, 256)),
        ("halo2botnet50ts_256", (256, 256)),
        ("haloregnetz_b", (224, 224)),
        ("haloregnetz_b", (224, 448)),
        pytest.param("halonet_h1", (256, 256), marks=pytest.mark.slow),
    ],
)
def test_matches_timm(name: str, size: Size) -> None:
    reference, ours = byob_pair(FAMILY, name, size)
    assert_matches(ours, reference, [size])


def test_smaller_windows_match_timm_at_more_sizes() -> None:
    theirs = {"self_attn_kwargs": {"block_size": 2, "halo_size": 2}}
    reference, ours = byob_pair(FAMILY, "halonet26t", (128, 128), theirs, {"attentions": halo(HALO2.replace(window=2))})
    assert_matches(ours, reference, [(128, 128), (192, 192), (64, 192)])
    assert_every_parameter_matters(ours, (128, 192))


@pytest.mark.parametrize("name", ["sehalonet33ts", "haloregnetz_b"])
def test_every_parameter_matters(name: str) -> None:
    assert_every_parameter_matters(byob_pair(FAMILY, name, (96, 128))[1], (96, 128), samples=16)
