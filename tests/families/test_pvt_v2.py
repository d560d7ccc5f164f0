"""PVTv2 against timm and transformers."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from transformers import PvtV2Config, PvtV2ForImageClassification, PvtV2Model

from hybridvit.encoder import Encoder
from hybridvit.families.pvt_v2 import FAMILY, NORM, pvt_v2
from hybridvit.spec import SpecError
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

SMALL: dict[str, Any] = {"dims": (16, 32, 80, 96), "depths": (1, 2, 1, 2), "heads": (1, 2, 5, 6)}
SIZES = [(224, 224), (256, 256), (128, 224), (75, 131), (32, 32)]


def timm_pair(name: str) -> tuple[Encoder, Any]:
    """The model, narrower and with fewer blocks, and timm's, with the same perturbed weights."""
    reference: Any = timm.create_model(
        name, embed_dims=SMALL["dims"], depths=SMALL["depths"], num_heads=SMALL["heads"], num_classes=10
    )
    perturb(reference.eval())
    model = FAMILY.model(name, **SMALL).replace(num_classes=10)
    return load_from(reference, model, FAMILY.layouts["timm"](model)), reference


def transformers_pair(linear: bool, num_classes: int = 10) -> tuple[Encoder, Any]:
    """The same for transformers, whose norms have one epsilon."""
    config = PvtV2Config(
        hidden_sizes=SMALL["dims"],
        depths=SMALL["depths"],
        num_attention_heads=SMALL["heads"],
        linear_attention=linear,
        id2label={index: str(index) for index in range(num_classes)},
    )
    reference = PvtV2ForImageClassification(config) if num_classes else PvtV2Model(config)
    perturb(reference.eval())
    model = pvt_v2(**SMALL, linear=linear, entrance_norm=NORM).replace(num_classes=num_classes)
    return load_from(reference, model, layouts_of(FAMILY)["transformers"](model)), reference


@pytest.mark.parametrize("name", ["pvt_v2_b0", "pvt_v2_b5", "pvt_v2_b2_li"])
def test_matches_timm(name: str) -> None:
    """At any size that timm runs: borders that no square of keys covers are dropped in both."""
    ours, reference = timm_pair(name)
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size)
            last, maps = reference.forward_intermediates(batch)
            assert error(ours(batch), reference.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), reference.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


@pytest.mark.parametrize("linear", [False, True])
def test_matches_transformers(linear: bool) -> None:
    ours, reference = transformers_pair(linear)
    embeddings: list[Tensor] = []
    reference.classifier.register_forward_pre_hook(lambda module, args: embeddings.append(args[0]))
    with torch.no_grad():
        for size in [(128, 128), (75, 131)]:
            batch = images(*size)
            expected = reference(batch, output_hidden_states=True, output_attentions=True)
            assert error(ours(batch), expected.logits) <= TOLERANCE, size
            assert error(ours.embed(batch), embeddings[-1]) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), expected.hidden_states, strict=True):
                assert error(found, map_) <= TOLERANCE, size
            weights = [block for stage in expected.attentions for block in stage]
            for found, map_ in zip(ours.attention_maps(batch).values(), weights, strict=True):
                torch.testing.assert_close(found, map_, atol=1e-4, rtol=1e-3)


def test_without_a_classifier_transformers_names_have_no_prefix() -> None:
    ours, reference = transformers_pair(linear=False, num_classes=0)
    with torch.no_grad():
        batch = images(64, 96)
        assert error(ours.features(batch)[-1], reference(batch).last_hidden_state) <= TOLERANCE


@pytest.mark.parametrize("name", ["pvt_v2_b0", "pvt_v2_b2_li"])
def test_every_parameter_matters(name: str) -> None:
    ours, _ = timm_pair(name)
    assert_power(ours, (96, 96), samples=24)


def test_keys_come_from_a_coarser_map() -> None:
    """On maps smaller than a square, where timm fails, from one square that zeros fill."""
    ours, _ = timm_pair("pvt_v2_b0")
    shapes = [tuple(weights.shape) for weights in ours.attention_maps(images(75, 131)).values()]
    assert shapes == [
        (3, 1, 19 * 33, 2 * 4),
        *[(3, 2, 10 * 17, 2 * 4)] * 2,
        (3, 5, 5 * 9, 2 * 4),
        *[(3, 6, 3 * 5, 3 * 5)] * 2,
    ]
    assert [weights.shape[3] for weights in ours.attention_maps(images(12, 40)).values()] == [1, 1, 1, 1, 2, 2]
    pooled, _ = timm_pair("pvt_v2_b2_li")
    assert {weights.shape[3] for weights in pooled.attention_maps(images(12, 75)).values()} == {49}


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SpecError, match="3 heads do not divide width 16"):
        pvt_v2(**dict(SMALL, heads=(3, 2, 5, 6))).build()


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("pvt_v2*"))
