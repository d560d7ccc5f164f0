"""Swin against timm, where windows divide the maps, and against transformers, where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SwinConfig, SwinForImageClassification, SwinModel

from hybridvit.encoder import Encoder
from hybridvit.families.swin import FAMILY, swin
from hybridvit.keys import check_keys
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

SMALL: dict[str, Any] = {"dim": 32, "depths": (1, 2, 3, 2), "heads": (1, 2, 4, 8)}
TRANSFORMERS_WINDOW = 3
# transformers shifts neither axis if one fits into a window: no map here is so small.
TRANSFORMERS_SIZES = [(128, 128), (192, 192), (128, 161), (133, 150)]


def timms(name: str, size: tuple[int, int]) -> nn.Module:
    """timm's model, narrower and with fewer blocks, for images of one size."""
    reference = timm.create_model(
        name,
        img_size=size,
        embed_dim=SMALL["dim"],
        depths=SMALL["depths"],
        num_heads=SMALL["heads"],
        num_classes=10,
    )
    return reference.eval()


def transformers_pair(num_classes: int = 10) -> tuple[Encoder, Any]:
    """A small Swin and transformers', with the same perturbed weights."""
    numbers: dict[str, Any] = {
        "image_size": 128,
        "embed_dim": SMALL["dim"],
        "depths": list(SMALL["depths"]),
        "num_heads": list(SMALL["heads"]),
        "window_size": TRANSFORMERS_WINDOW,
        "num_labels": num_classes,
    }
    config = SwinConfig(**numbers)
    reference = SwinForImageClassification(config).eval() if num_classes else SwinModel(config).eval()
    perturb(reference)
    model = swin(**SMALL, windows=(TRANSFORMERS_WINDOW,) * 4).replace(img_size=(128, 128), num_classes=num_classes)
    return load_from(reference, model, layouts_of(FAMILY)["transformers-v5"](model)), reference


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swin_s3_small_224"])
def test_matches_timm(name: str) -> None:
    reference: Any = timms(name, (224, 224))
    perturb(reference)
    model = FAMILY.model(name, **SMALL).replace(num_classes=10)
    ours = load_from(reference, model, FAMILY.layouts["timm"](model))
    with torch.no_grad():
        for size in [(224, 224), (448, 448), (224, 448)]:
            sized: Any = timms(name, size)
            sized.load_state_dict(reference.state_dict())
            batch = images(*size)
            last, maps = sized.forward_intermediates(batch)
            assert error(ours(batch), sized.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), sized.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


def test_matches_transformers_where_windows_do_not_divide_the_map() -> None:
    ours, reference = transformers_pair()
    embeddings: list[Tensor] = []
    reference.classifier.register_forward_pre_hook(lambda module, args: embeddings.append(args[0]))
    with torch.no_grad():
        for size in TRANSFORMERS_SIZES:
            batch = images(*size)
            expected = reference(batch, output_hidden_states=True)
            assert error(ours(batch), expected.logits) <= TOLERANCE, size
            assert error(ours.embed(batch), embeddings[-1]) <= TOLERANCE, size
            assert error(ours.features(batch)[-1], expected.reshaped_hidden_states[-1]) <= TOLERANCE, size


def test_files_of_transformers_have_other_names(tmp_path: Path) -> None:
    """And those of its older versions an index that follows from the window."""
    ours, reference = transformers_pair()
    reference.save_pretrained(tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    layout = layouts_of(FAMILY)["transformers"](ours.spec)
    assert layout.to_theirs(ours.state_dict()).keys() == theirs.keys()
    theirs["swin.encoder.layers.2.blocks.1.attention.self.relative_position_index"] = torch.zeros(9, 9)
    found = layout.to_ours(theirs)
    assert found.keys() == ours.state_dict().keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in ours.state_dict().items())


def test_without_a_classifier() -> None:
    ours, reference = transformers_pair(num_classes=0)
    with torch.no_grad():
        batch = images(128, 161)
        assert error(ours.embed(batch), reference(batch).pooler_output) <= TOLERANCE


def test_every_parameter_matters() -> None:
    ours, _ = transformers_pair()
    assert_power(ours, (128, 128), samples=24)


def test_buffers_of_older_checkpoints_are_left_out() -> None:
    model = FAMILY.model("swin_tiny_patch4_window7_224")
    with torch.device("meta"):
        theirs, ours = timm.create_model("swin_tiny_patch4_window7_224").state_dict(), model.build().state_dict()
    old = {
        "layers.1.blocks.1.attn.relative_position_index": torch.zeros(1),
        "layers.1.blocks.1.attn_mask": torch.zeros(1),
    }
    check_keys(FAMILY.layouts["timm"](model).to_ours(theirs | old), ours)


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("swin_*"))
