"""CoAtNet, the paper's and timm's variants of it, against timm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from hybridvit.components.transitions import Add
from hybridvit.encoder import Encoder
from hybridvit.families import load_family
from hybridvit.families.coatnet import coatnet, timm_rules
from hybridvit.spec import Grid
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

# timm's interpolation of bias tables warns about how it calls torch.
pytestmark = pytest.mark.filterwarnings("ignore:.*searchsorted", "ignore:Using a non-tuple sequence")

NUMBERS = {**load_family("coatnet").sizes, **load_family("coatnet_rw").sizes}
# One of each configuration; the others differ from one of these in widths and depths only.
CONFIGURATIONS = [
    "coatnet_0_224",
    "coatnet_pico_rw_224",
    "coatnet_nano_rw_224",
    "coatnet_0_rw_224",
    "coatnet_1_rw_224",
    "coatnet_2_rw_224",
    "coatnet_3_rw_224",
    "coatnet_bn_0_rw_224",
    "coatnet_rmlp_nano_rw_224",
    "coatnet_rmlp_0_rw_224",
    "coatnet_rmlp_1_rw_224",
    "coatnet_rmlp_2_rw_224",
    "coatnet_nano_cc_224",
    "coatnext_nano_rw_224",
]
SIZES = [(64, 64), (96, 96), (64, 128)]


def small_pair(name: str) -> tuple[Encoder, nn.Module]:
    """The model, narrower and with fewer blocks, and timm's, with the same perturbed weights."""
    numbers = {key: number for key, number in NUMBERS[name].items() if key != "img_size"}
    keeps_width = numbers["stem"][1] == numbers["dims"][0]
    stem = (32, 32) if numbers["stem"][0] == numbers["stem"][1] else (16, 32)
    dims, depths = (32, 64, 128, 128) if keeps_width else (64, 96, 96, 128), (2, 1, 2, 3)
    hidden = dims[-1] if numbers.get("hidden", True) else None
    reference = timm.create_model(
        name, stem_width=stem, embed_dim=dims, depths=depths, head_hidden_size=hidden, img_size=64, num_classes=10
    )
    perturb(reference.eval())
    model = coatnet(**numbers | {"stem": stem, "dims": dims, "depths": depths})
    model = model.replace(img_size=(64, 64), num_classes=10)
    return load_from(reference, model, timm_rules(model)), reference


def resized(reference: nn.Module, images: Tensor) -> Any:
    """timm's model for the size of the images, its bias tables resized."""
    reference = copy.deepcopy(reference)
    reference.set_input_size(img_size=tuple(images.shape[2:]))  # pyright: ignore[reportCallIssue]
    return reference


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_matches_timm(name: str) -> None:
    """In double precision, for without layer norms activations and scores grow until rounding would show."""
    ours, reference = small_pair(name)
    ours.double()
    reference.double()
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size).double()
            timms = resized(reference, batch)
            last, maps = timms.forward_intermediates(batch)
            assert error(ours(batch), timms.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), timms.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


@pytest.mark.parametrize("name", ["coatnet_0_224", "coatnet_rmlp_1_rw_224", "coatnext_nano_rw_224"])
def test_every_parameter_matters(name: str) -> None:
    """But the last bias of an MLP of positions: the softmax cancels what is added to all scores of a head."""
    ours, _ = small_pair(name)
    assert_power(ours, (64, 64), immaterial=(".bias.fc2.bias",))


def test_every_name_of_timm_is_here() -> None:
    assert set(NUMBERS) == {*timm.list_models("coatne*"), "test_coatnet"}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_both_sides_of_a_strided_block_meet_at_every_size(name: str) -> None:
    entrances = [stage.enter for stage in coatnet(**NUMBERS[name]).stages[1:]]
    for enter in entrances:
        assert isinstance(enter, Add)
        for size in range(1, 100):
            grid = Grid(size, 100 - size)
            half = Grid(-(-grid.height // 2), -(-grid.width // 2))
            assert enter.shortcut.out_grid(grid) == enter.body.out_grid(grid) == half


def test_smallest_images() -> None:
    ours, _ = small_pair("coatnet_0_224")
    with torch.no_grad():
        for height, width in ((1, 1), (5, 9), (33, 2)):
            assert torch.isfinite(ours(images(height, width))).all()
