"""MobileViTv2 against timm and transformers."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from transformers import MobileViTV2Config, MobileViTV2ForImageClassification

from hybridvit.encoder import Encoder
from hybridvit.families.mobilevitv2 import FAMILY
from hybridvit.keys import check_keys
from hybridvit.weights.layouts import layouts_of
from tests.parity import assert_power, error, images, load_from, perturb

EXACT = 1e-7  # in double precision
NAME = "mobilevitv2_050"


def pair() -> tuple[Encoder, Any]:
    """The model and timm's, with the same perturbed weights, in double precision."""
    reference: Any = timm.create_model(NAME, num_classes=10)
    perturb(reference.eval(), batch_norm_gain=1.5)
    model = FAMILY.model(NAME).replace(num_classes=10)
    return load_from(reference, model, FAMILY.layouts["timm"](model)).double(), reference.double()


def transformers_model(name: str, classes: int) -> Any:
    labels = {index: str(index) for index in range(classes)}
    config = MobileViTV2Config(width_multiplier=FAMILY.sizes[name]["width"], id2label=labels)
    return MobileViTV2ForImageClassification(config).eval()


def test_matches_timm() -> None:
    """At any size, for both stretch a map that patches do not divide."""
    ours, reference = pair()
    with torch.no_grad():
        for size in [(256, 256), (64, 96), (75, 131), (33, 2)]:
            batch = images(*size).double()
            last, maps = reference.forward_intermediates(batch)
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= EXACT, size
            assert error(ours.embed(batch), reference.forward_head(last, pre_logits=True)) <= EXACT, size
            assert error(ours(batch), reference.forward_head(last)) <= EXACT, size


def test_matches_transformers() -> None:
    """Where patches cover its maps."""
    reference = transformers_model(NAME, classes=10)
    perturb(reference, batch_norm_gain=1.5)
    model = FAMILY.model(NAME).replace(num_classes=10)
    ours = load_from(reference, model, layouts_of(FAMILY)["transformers"](model)).double()
    reference.double()
    with torch.no_grad():
        for size in [(64, 64), (128, 64)]:
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
    assert_power(pair()[0], (64, 96), samples=24, tolerance=EXACT)


def test_every_place_of_a_patch_has_a_map() -> None:
    maps = pair()[0].attention_maps(images(75, 131).double())
    patches = [5 * 9] * 2 + [3 * 5] * 4 + [2 * 3] * 3
    assert [tuple(weights.shape) for weights in maps.values()] == [(3, 4, 1, n) for n in patches]


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("mobilevitv2_*"))
