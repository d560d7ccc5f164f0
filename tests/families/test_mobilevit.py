"""MobileViT against timm and transformers."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from transformers import MobileViTConfig, MobileViTForImageClassification

from hybridvit.components.blocks import BranchModule
from hybridvit.encoder import Encoder
from hybridvit.families.mobilevit import FAMILY
from hybridvit.keys import check_keys
from hybridvit.weights.layouts import layouts_of
from tests.parity import assert_power, error, images, load_from, perturb

EXACT = 1e-7  # in double precision
SIZES = [(256, 256), (64, 96), (75, 131), (33, 2)]


def pair(name: str) -> tuple[Encoder, Any]:
    """The model and timm's, with the same perturbed weights, in double precision."""
    reference: Any = timm.create_model(name, num_classes=10)
    perturb(reference.eval(), batch_norm_gain=1.5)
    model = FAMILY.model(name).replace(num_classes=10)
    return load_from(reference, model, FAMILY.layouts["timm"](model)).double(), reference.double()


def transformers_model(name: str, classes: int) -> Any:
    numbers = FAMILY.sizes[name]
    config = MobileViTConfig(
        neck_hidden_sizes=[16, *numbers["dims"], numbers["last"]],
        hidden_sizes=list(numbers["inner"]),
        expand_ratio=float(numbers.get("expand", 4)),
        id2label={index: str(index) for index in range(classes)},
    )
    return MobileViTForImageClassification(config).eval()


@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevit_xs"])
def test_matches_timm(name: str) -> None:
    """At any size, for both resize a map that patches do not divide."""
    ours, reference = pair(name)
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size).double()
            last, maps = reference.forward_intermediates(batch, exclude_final_conv=True)
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= EXACT, size
            assert error(ours.embed(batch), reference.forward_head(last, pre_logits=True)) <= EXACT, size
            assert error(ours(batch), reference.forward_head(last)) <= EXACT, size


def test_matches_transformers() -> None:
    reference = transformers_model("mobilevit_xxs", classes=10)
    perturb(reference, batch_norm_gain=1.5)
    model = FAMILY.model("mobilevit_xxs").replace(num_classes=10)
    ours = load_from(reference, model, layouts_of(FAMILY)["transformers"](model)).double()
    reference.double()
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size).double()
            expected = reference(batch, output_hidden_states=True)
            for found, map_ in zip(ours.features(batch), expected.hidden_states, strict=True):
                assert error(found, map_) <= EXACT, size
            assert error(ours(batch), expected.logits) <= EXACT, size


@pytest.mark.parametrize("name", FAMILY.sizes)
def test_keys_and_shapes_of_every_size_in_transformers(name: str) -> None:
    model = FAMILY.model(name)
    with torch.device("meta"):
        theirs, ours = transformers_model(name, classes=1000).state_dict(), model.build().state_dict()
    check_keys(layouts_of(FAMILY)["transformers"](model).to_ours(theirs), ours)


def test_every_parameter_matters() -> None:
    assert_power(pair("mobilevit_xxs")[0], (64, 96), samples=24, tolerance=EXACT)


def test_attention_is_between_patches() -> None:
    """One map a place in the patch: those of an image follow each other."""
    maps = pair("mobilevit_xxs")[0].attention_maps(images(75, 131).double())
    patches = [5 * 9] * 2 + [3 * 5] * 4 + [2 * 3] * 3
    assert [tuple(weights.shape) for weights in maps.values()] == [(3 * 4, 4, n, n) for n in patches]


def test_drop_path_reaches_the_blocks_inside() -> None:
    with torch.device("meta"):
        ours = FAMILY.model("mobilevit_xxs").build()
    ours.set_drop_path(0.5)
    rates = {part.drop_path for part in ours.stages[-1].modules() if isinstance(part, BranchModule)}
    assert rates == {0.5}


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("mobilevit_*"))
