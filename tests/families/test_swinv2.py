"""SwinV2 against timm, where windows divide the maps, and against transformers, where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Swinv2Config, Swinv2ForImageClassification, Swinv2Model

from hybridvit.encoder import Encoder, Model
from hybridvit.families.swinv2 import FAMILY, swinv2
from hybridvit.keys import check_keys
from hybridvit.meta import without_memory
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

SMALL: dict[str, Any] = {"dim": 32, "depths": (1, 2, 3, 2), "heads": (1, 2, 4, 8)}
TRANSFORMERS_WINDOW = 3


def windows_of(model: Model) -> tuple[int, ...]:
    """The side of the windows of each stage."""
    mixers: list[Any] = [stage.blocks[0].branches[0].mixer for stage in model.stages]
    return tuple(mixer.window[0] for mixer in mixers)


def timms(name: str, size: tuple[int, int]) -> nn.Module:
    """timm's model, narrower and with fewer blocks, for images of one size.

    Its windows are those of the default size: left to itself, timm makes that of the last stage larger with the image.
    """
    reference = timm.create_model(
        name,
        img_size=size,
        embed_dim=SMALL["dim"],
        depths=SMALL["depths"],
        num_heads=SMALL["heads"],
        window_size=windows_of(FAMILY.model(name)),
        num_classes=10,
    )
    return reference.eval()


def transformers_pair(num_classes: int = 10) -> tuple[Encoder, Any]:
    """A small SwinV2 and transformers', with the same perturbed weights."""
    numbers: dict[str, Any] = {
        "image_size": 128,
        "embed_dim": SMALL["dim"],
        "depths": list(SMALL["depths"]),
        "num_heads": list(SMALL["heads"]),
        "window_size": TRANSFORMERS_WINDOW,
        "num_labels": num_classes,
    }
    config = Swinv2Config(**numbers)
    reference = Swinv2ForImageClassification(config).eval() if num_classes else Swinv2Model(config).eval()
    perturb(reference)
    model = swinv2(**SMALL, windows=(TRANSFORMERS_WINDOW,) * 4).replace(img_size=(128, 128), num_classes=num_classes)
    return load_from(reference, model, layouts_of(FAMILY)["transformers"](model)), reference


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("swinv2_tiny_window8_256", [(256, 256), (512, 512), (256, 512)]),
        ("swinv2_tiny_window16_256", [(256, 256), (256, 512)]),
        ("swinv2_base_window12_192", [(192, 192), (384, 192)]),
        ("swinv2_base_window12to16_192to256", [(256, 256), (256, 512)]),
    ],
)
def test_matches_timm(name: str, sizes: list[tuple[int, int]]) -> None:
    reference: Any = timms(name, sizes[0])
    perturb(reference)
    model = FAMILY.model(name, **SMALL).replace(num_classes=10)
    ours = load_from(reference, model, FAMILY.layouts["timm"](model))
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


def test_matches_transformers_where_windows_do_not_divide_the_map() -> None:
    ours, reference = transformers_pair()
    embeddings: list[Tensor] = []
    reference.classifier.register_forward_pre_hook(lambda module, args: embeddings.append(args[0]))
    with torch.no_grad():
        for size in [(128, 128), (192, 192), (128, 161), (133, 150)]:
            batch = images(*size)
            expected = reference(batch, output_hidden_states=True)
            assert error(ours(batch), expected.logits) <= TOLERANCE, size
            assert error(ours.embed(batch), embeddings[-1]) <= TOLERANCE, size
            assert error(ours.features(batch)[-1], expected.reshaped_hidden_states[-1]) <= TOLERANCE, size


def test_files_of_transformers(tmp_path: Path) -> None:
    """Those of its older versions hold what follows from the window too."""
    ours, reference = transformers_pair()
    reference.save_pretrained(tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    layout = layouts_of(FAMILY)["transformers"](ours.spec)
    assert layout.to_theirs(ours.state_dict()).keys() == theirs.keys()
    for name in ("relative_position_index", "relative_coords_table"):
        theirs[f"swinv2.encoder.layers.2.blocks.1.attention.self.{name}"] = torch.zeros(1)
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


@pytest.mark.parametrize("name", FAMILY.sizes)
def test_keys_and_shapes_of_every_size(name: str) -> None:
    model = FAMILY.model(name)
    with without_memory():
        reference: Any = timm.create_model(name, num_classes=1000)
        ours = model.build()
    constants = ("attn_mask", "attn.relative_position_index", "attn.relative_coords_table")
    old = {f"layers.1.blocks.1.{constant}": torch.zeros(1) for constant in constants}
    check_keys(FAMILY.layouts["timm"](model).to_ours(reference.state_dict() | old), ours.state_dict())
    assert model.img_size == tuple(reference.default_cfg["input_size"][1:])
    windows = tuple(layer.blocks[0].window_size[0] for layer in reference.layers)
    trained = tuple(layer.blocks[0].attn.pretrained_window_size[0] for layer in reference.layers)
    assert windows == windows_of(model)
    assert trained == FAMILY.sizes[name].get("trained_windows", (0, 0, 0, 0))
    assert [(info.channels, info.stride) for info in ours.feature_info] == [
        (info["num_chs"], info["reduction"]) for info in reference.feature_info
    ]


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("swinv2_*", exclude_filters="swinv2_cr_*"))
