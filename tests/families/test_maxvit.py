"""MaxViT of timm and of the paper, MaxxViT, and the parallel MaxViT, against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from hybridvit.components.transitions import Add
from hybridvit.encoder import Encoder
from hybridvit.families import load_family
from hybridvit.spec import Grid
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

FAMILIES = [load_family(name) for name in ("maxvit", "maxvit_tf", "maxvit_pm", "maxxvit")]
FAMILY_OF = {name: family for family in FAMILIES for name in family.sizes}
# One of each configuration; the others differ from one of these in numbers only.
CONFIGURATIONS = [
    "test_maxvit",
    "maxvit_nano_rw_256",
    "maxvit_rmlp_pico_rw_256",
    "maxvit_rmlp_small_rw_224",
    "maxvit_rmlp_base_rw_224",
    "maxvit_tiny_tf_224",
    "maxvit_tiny_pm_256",
    "maxxvit_rmlp_nano_rw_256",
    "maxxvitv2_nano_rw_256",
    "maxxvitv2_rmlp_base_rw_224",
    "maxxvitv2_rmlp_large_rw_224",
]
LARGER = ["test_maxvit", "maxvit_tiny_tf_224", "maxxvitv2_rmlp_large_rw_224"]
IMG_SIZE = 64
# timm runs those alone whose maps windows of IMG_SIZE / 32 positions divide at every stage.
SIZES = [(64, 64), (63, 127)]


def small_pair(name: str) -> tuple[Encoder, nn.Module]:
    """The model, narrower and with fewer blocks, and timm's, with the same perturbed weights."""
    numbers = dict(FAMILY_OF[name].sizes[name])
    keeps_width = numbers["stem"][1] == numbers["dims"][0]
    stem = (32, 32) if numbers["stem"][0] == numbers["stem"][1] else (16, 32)
    dims, depths = (32, 32, 64, 64) if keeps_width else (64, 64, 64, 128), (1, 2, 1, 1)
    hidden = dims[-1] if numbers.get("hidden") else None
    reference = timm.create_model(
        name, stem_width=stem, embed_dim=dims, depths=depths, head_hidden_size=hidden, img_size=IMG_SIZE, num_classes=10
    )
    perturb(reference.eval())
    small = {"stem": stem, "dims": dims, "depths": depths, "img_size": IMG_SIZE}
    model = FAMILY_OF[name].model(name, **small).replace(num_classes=10)
    return load_from(reference, model, FAMILY_OF[name].layouts["timm"](model)), reference


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_matches_timm(name: str) -> None:
    """In double precision, for without layer norms activations grow until rounding would show."""
    ours, reference = small_pair(name)
    ours.double()
    timms: Any = reference.double()
    with torch.no_grad():
        for size in [*SIZES, (128, 128)] if name in LARGER else SIZES:
            batch = images(*size).double()
            last, maps = timms.forward_intermediates(batch)
            assert error(ours(batch), timms.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), timms.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


@pytest.mark.parametrize("name", ["maxvit_tiny_tf_224", "maxvit_tiny_pm_256", "maxxvitv2_rmlp_large_rw_224"])
def test_every_parameter_matters(name: str) -> None:
    """But the last bias of an MLP of positions: the softmax cancels what is added to all scores of a head."""
    ours, _ = small_pair(name)
    assert_power(ours, SIZES[0], samples=24, immaterial=(".bias.fc2.bias",))


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY_OF) == set(timm.list_models("*max*vit*"))


@pytest.mark.parametrize("name", ["maxvit_tiny_rw_224", "maxvit_tiny_tf_224", "maxxvitv2_nano_rw_256"])
def test_both_sides_of_a_strided_block_meet_at_every_size(name: str) -> None:
    for stage in FAMILY_OF[name].model(name).stages[1:]:
        assert isinstance(stage.enter, Add)
        for size in range(1, 100):
            grid = Grid(size, 100 - size)
            half = Grid(-(-grid.height // 2), -(-grid.width // 2))
            assert stage.enter.shortcut.out_grid(grid) == stage.enter.body.out_grid(grid) == half


@pytest.mark.parametrize("name", ["maxvit_tiny_tf_224", "maxvit_tiny_pm_256"])
def test_sizes_that_windows_do_not_divide(name: str) -> None:
    ours, _ = small_pair(name)
    with torch.no_grad():
        for height, width in ((1, 1), (5, 9), (33, 130)):
            assert torch.isfinite(ours(images(height, width))).all()
