"""GCViT against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.adapt import with_img_size
from hybridvit.components import LayerNorm
from hybridvit.families.gcvit import FAMILY, ContextAttention, gcvit
from hybridvit.spec import Grid, SpecError
from tests.parity import images, perturb
from tests.timm_staged import assert_every_parameter_matters, assert_matches, pair


def built_for(size: tuple[int, int], scale: float | None = None) -> Any:
    """timm's and ours, for images of one size: timm's take no other."""
    return pair(FAMILY, "gcvit_xxtiny", {"layer_scale": scale}, {"layer_scale": scale}, img_size=size)


@pytest.mark.parametrize(("size", "scale"), [((224, 224), None), ((320, 320), 1e-5), ((96, 160), 1e-5)])
def test_matches_timm(size: tuple[int, int], scale: float | None) -> None:
    """Its windows, too, are as many whatever the size it is built for."""
    reference, ours = built_for(size, scale)
    assert_matches(ours, reference, [size])


def test_every_parameter_matters() -> None:
    assert_every_parameter_matters(built_for((96, 160), 1e-5)[1], (96, 160), samples=48)


def test_windows_grow_with_the_image() -> None:
    """As many at any size, also where they do not divide the map, and the tables of positions follow."""
    model = gcvit(dim=32, depths=(2, 2, 2, 2)).replace(num_classes=5).build().eval()
    perturb(model)
    batch = images(75, 131)
    with torch.no_grad():
        torch.testing.assert_close(with_img_size(model, (75, 131))(batch), model(batch))
    shapes = [tuple(weights.shape) for weights in model.attention_maps(batch).values()]
    windows, sizes = (64, 16, 1, 1), (3 * 5, 3 * 5, 5 * 9, 3 * 5)
    assert shapes[::2] == shapes[1::2] == [(3 * windows[i], 1 << i, sizes[i], sizes[i]) for i in range(4)]


def test_shared_queries_need_a_prefix() -> None:
    with pytest.raises(SpecError, match="0 prefix tokens are not 4 queries of a window"):
        ContextAttention(heads=2, windows=2, norm=LayerNorm(), shared=True).build(8, Grid(4, 4))


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("gcvit_*"))
