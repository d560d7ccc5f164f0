"""torchvision's models with drawn weights, saved as state dicts and loaded by the names in them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models.maxvit import MaxVit
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)
from torchvision.models.vision_transformer import VisionTransformer

import hybridvit as hv
from hybridvit.components import LinearHead, Patchify, TokenPool
from hybridvit.encoder import Encoder, Model
from hybridvit.families.maxvit_torchvision import maxvit_torchvision
from hybridvit.families.swin import swin
from hybridvit.families.swinv2 import swinv2
from hybridvit.keys import check_keys
from hybridvit.trunks import NORM, Width, vit_stage
from hybridvit.weights.torchvision_format import LAYOUTS
from tests.parity import assert_parity, assert_power, error, images, perturb

SMALL: dict[str, Any] = {"depths": (1, 2, 3, 1), "heads": (1, 2, 4, 8)}


def vit_pair() -> tuple[nn.Module, Model]:
    reference = VisionTransformer(
        image_size=48, patch_size=8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=96, num_classes=7
    )
    stage = vit_stage(enter=Patchify(dim=64, patch=8), width=Width(64, 3, 4, 1.5))
    return reference, Model(
        stages=(stage,), pool=TokenPool(norm=NORM), head=LinearHead(), img_size=(48, 48), num_classes=7
    )


def swin_pair(second: bool) -> tuple[nn.Module, Model]:
    numbers: dict[str, Any] = {"patch_size": [4, 4], "embed_dim": 16, "window_size": [5, 5], "num_classes": 7}
    if second:
        numbers |= {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    reference = SwinTransformer(depths=list(SMALL["depths"]), num_heads=list(SMALL["heads"]), **numbers)
    build = swinv2 if second else swin
    return reference, build(dim=16, windows=(5,) * 4, **SMALL).replace(img_size=(160, 160), num_classes=7)


def maxvit_pair(size: int = 192, window: int = 6) -> tuple[nn.Module, Model]:
    numbers: dict[str, Any] = {"partition_size": window, "head_dim": 32, "stochastic_depth_prob": 0.0}
    reference = MaxVit((size, size), 32, block_channels=[32, 64], block_layers=[1, 2], num_classes=7, **numbers)
    model = maxvit_torchvision(stem=32, dims=(32, 64), depths=(1, 2), window=window)
    return reference, model.replace(img_size=(size, size), num_classes=7)


def loaded(reference: nn.Module, model: Model, family: str) -> Encoder:
    """Ours with the reference's weights, which come back bit for bit, but for what follows from windows."""
    rules, theirs = LAYOUTS[family](model), reference.state_dict()
    ours = rules.to_ours(theirs)
    constants = ("relative_position_index", "relative_coords_table")
    kept = {key: tensor for key, tensor in theirs.items() if not key.endswith(constants)}
    back = rules.to_theirs(ours)
    assert back.keys() == kept.keys()
    assert all(torch.equal(back[key], kept[key]) for key in back)
    encoder = model.build().eval()
    check_keys(ours, encoder.state_dict())
    encoder.load_state_dict(ours)
    return encoder


@pytest.mark.parametrize(
    ("family", "make", "sizes"),
    [
        ("vit", vit_pair, [(48, 48)]),
        ("swin", partial(swin_pair, second=False), [(160, 160), (192, 256), (132, 172)]),
        ("swinv2", partial(swin_pair, second=True), [(160, 160), (192, 256), (132, 172)]),
        ("maxvit_torchvision", maxvit_pair, [(192, 192)]),
    ],
)
def test_parity_with_torchvision(family: str, make: Any, sizes: list[tuple[int, int]]) -> None:
    reference, model = make()
    perturb(reference.eval())
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if family == "swinv2" and name.endswith("qkv.bias"):
                parameter.chunk(3)[1].zero_()  # which torchvision does itself
    ours = loaded(reference, model, family)
    assert_parity(ours, reference, sizes)
    assert_power(ours, sizes[0])


def test_maxvit_at_another_size() -> None:
    """torchvision runs a model at the size that it is built for; ours is built for one and runs at any."""
    reference, model = maxvit_pair()
    perturb(reference.eval())
    ours = loaded(reference, model, "maxvit_torchvision")
    larger, _ = maxvit_pair(384)
    larger.eval().load_state_dict(reference.state_dict())
    with torch.no_grad():
        assert error(ours(images(384, 384)), larger(images(384, 384))) <= 1e-4
        assert ours(images(75, 131)).shape == (3, 7)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_is_known_by_its_names(suffix: str, tmp_path: Path) -> None:
    """Pickled, as torchvision's files are, or not; a size of the zoo with another number of classes."""
    reference = torchvision.models.swin_t(num_classes=7).eval()
    perturb(reference)
    path = tmp_path / f"swin_t{suffix}"
    save = torch.save if suffix == ".pth" else save_file
    save({key: tensor.contiguous() for key, tensor in reference.state_dict().items()}, path)
    ours = hv.create_model("swin_tiny_patch4_window7_224", file=path, allow_pickle=suffix == ".pth")
    with torch.no_grad():
        assert error(ours(images(96, 128)), reference(images(96, 128))) <= 1e-4


def test_old_names_of_a_vit() -> None:
    reference, model = vit_pair()
    new = reference.state_dict()
    old = {key.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor for key, tensor in new.items()}
    found = [LAYOUTS["vit"](model).to_ours(tensors) for tensors in (old, new)]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(tensor, found[1][key]) for key, tensor in found[0].items())
