"""ConvFormer and CAFormer against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families.metaformer import FAMILY, metaformer
from hybridvit.keys import check_keys
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

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
    model = metaformer(**dict(FAMILY.sizes[name]) | SMALL).replace(num_classes=10)
    return load_from(reference, model, FAMILY.layouts["timm"](model)), reference


@pytest.mark.parametrize("name", ["convformer_s18", "caformer_s18"])
def test_matches_timm(name: str) -> None:
    """At any size, for timm's convolutions drop what ours drop."""
    ours, reference = small_pair(name)
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size)
            last, maps = reference.forward_intermediates(batch)
            assert error(ours(batch), reference.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), reference.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


@pytest.mark.parametrize("name", ["convformer_s18", "caformer_s18"])
def test_every_parameter_matters(name: str) -> None:
    ours, _ = small_pair(name)
    assert_power(ours, (96, 96), samples=24)


def test_the_last_stages_attend() -> None:
    ours, _ = small_pair("caformer_s18")
    shapes = [tuple(weights.shape) for weights in ours.attention_maps(images(75, 131)).values()]
    assert shapes == [*[(3, 3, 5 * 8, 5 * 8)] * 2, (3, 4, 3 * 4, 3 * 4)]
    assert not small_pair("convformer_s18")[0].attention_maps(images(64, 64))


@pytest.mark.parametrize("name", FAMILY.sizes)
def test_keys_and_shapes_of_every_size(name: str) -> None:
    model = FAMILY.model(name)
    with torch.device("meta"):
        reference: Any = timm.create_model(name)
        ours = model.build()
    layout = FAMILY.layouts["timm"](model)
    check_keys(layout.to_ours(reference.state_dict()), ours.state_dict())
    assert layout.to_theirs(ours.state_dict()).keys() == reference.state_dict().keys()
    assert model.img_size == tuple(reference.default_cfg["input_size"][1:])
    assert [(info.channels, info.stride) for info in ours.feature_info] == [
        (info["num_chs"], info["reduction"]) for info in reference.feature_info
    ]


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models(["convformer_*", "caformer_*"]))
