"""SwinV2-CR against timm, where windows divide the maps."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from hybridvit.encoder import Encoder
from hybridvit.families.swinv2_cr import FAMILY
from hybridvit.keys import check_keys
from hybridvit.meta import without_memory
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

SMALL: dict[str, Any] = {"dim": 32, "depths": (1, 2, 3, 2), "heads": (1, 2, 4, 8)}


def timms(name: str, size: tuple[int, int]) -> nn.Module:
    """timm's model, narrower and with fewer blocks, for images of one size, with the windows of the default size."""
    reference = timm.create_model(
        name,
        img_size=size,
        embed_dim=SMALL["dim"],
        depths=SMALL["depths"],
        num_heads=SMALL["heads"],
        window_size=FAMILY.model(name).img_size[0] // 32,
        num_classes=10,
    )
    return reference.eval()


def small_pair(name: str) -> tuple[Encoder, nn.Module]:
    """The model, narrower and with fewer blocks, and timm's, with the same perturbed weights."""
    model = FAMILY.model(name, **SMALL).replace(num_classes=10)
    reference = timms(name, model.img_size)
    perturb(reference)
    return load_from(reference, model, FAMILY.layouts["timm"](model)), reference


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("swinv2_cr_tiny_224", [(224, 224), (448, 448), (224, 448)]),
        ("swinv2_cr_tiny_ns_224", [(224, 224), (448, 224)]),
        ("swinv2_cr_small_ns_256", [(256, 256)]),
    ],
)
def test_matches_timm(name: str, sizes: list[tuple[int, int]]) -> None:
    ours, reference = small_pair(name)
    with torch.no_grad():
        for size in sizes:
            sized: Any = timms(name, size)
            sized.load_state_dict(reference.state_dict())
            batch = images(*size)
            last, maps = sized.forward_intermediates(batch)
            assert error(ours(batch), sized.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), sized.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


def test_every_parameter_matters() -> None:
    """But the last bias of an MLP of positions: the softmax cancels what is added to all scores of a head."""
    ours, _ = small_pair("swinv2_cr_tiny_ns_224")
    assert_power(ours, (112, 112), samples=24, immaterial=(".bias.fc2.bias",))


@pytest.mark.parametrize("name", FAMILY.sizes)
def test_keys_and_shapes_of_every_size(name: str) -> None:
    model = FAMILY.model(name)
    with without_memory():
        reference: Any = timm.create_model(name, num_classes=1000)
        ours = model.build()
    check_keys(FAMILY.layouts["timm"](model).to_ours(reference.state_dict()), ours.state_dict())
    assert model.img_size == tuple(reference.default_cfg["input_size"][1:])
    windows = {block.window_size for stage in reference.stages for block in stage.blocks}
    assert windows == {(model.img_size[0] // 32,) * 2}
    assert [(info.channels, info.stride) for info in ours.feature_info] == [
        (info["num_chs"], info["reduction"]) for info in reference.feature_info
    ]


def test_every_name_of_timm_but_the_untrained_giants_is_here() -> None:
    giants = {f"swinv2_cr_{name}_{size}" for name in ("huge", "giant") for size in (224, 384)}
    assert set(FAMILY.sizes) == set(timm.list_models("swinv2_cr_*")) - giants
    assert not giants & set(timm.list_models("swinv2_cr_*", pretrained=True))
