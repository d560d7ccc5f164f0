"""ConvFormer and CAFormer against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families.metaformer import FAMILY
from tests.parity import images, load_from, perturb
from tests.timm_staged import assert_every_parameter_matters, assert_matches

SMALL: dict[str, Any] = {"dims": (32, 64, 96, 128), "depths": (1, 2, 2, 1)}
SIZES = [(224, 224), (256, 256), (128, 224), (75, 131), (33, 30)]


def small_pair(name: str) -> tuple[Encoder, Any]:
    """The model, narrower and with fewer blocks, and timm's, with the same perturbed weights."""
    with torch.device("meta"):
        stages: Any = timm.create_model(name).stages
    reference: Any = timm.models.MetaFormer(
        **SMALL,
        token_mixers=[type(stage.blocks[0].token_mixer) for stage in stages],
        norm_layers=[type(stage.blocks[0].norm1) for stage in stages],
        num_classes=10,
    )
    perturb(reference.eval())
    reference.double()
    model = FAMILY.model(name, **SMALL).replace(num_classes=10)
    return load_from(reference, model, FAMILY.layouts["timm"](model)), reference


@pytest.mark.parametrize("name", ["convformer_s18", "caformer_s18"])
def test_matches_timm(name: str) -> None:
    """At any size, for timm's convolutions drop what ours drop."""
    ours, reference = small_pair(name)
    assert_matches(ours, reference, SIZES)


@pytest.mark.parametrize("name", ["convformer_s18", "caformer_s18"])
def test_every_parameter_matters(name: str) -> None:
    ours, _ = small_pair(name)
    assert_every_parameter_matters(ours, (96, 96))


def test_the_last_stages_attend() -> None:
    ours, _ = small_pair("caformer_s18")
    shapes = [tuple(weights.shape) for weights in ours.attention_maps(images(75, 131).double()).values()]
    assert shapes == [*[(3, 3, 5 * 9, 5 * 9)] * 2, (3, 4, 3 * 5, 3 * 5)]
    assert not small_pair("convformer_s18")[0].attention_maps(images(64, 64).double())


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models(["convformer_*", "caformer_*"]))
