"""Directories of timm and transformers: read by what their config says, equal in logits, preprocessing and labels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CvtConfig,
    CvtForImageClassification,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.keys import KeyMismatchError
from hybridvit.registry import UnknownNameError
from hybridvit.weights.layouts import layouts_of
from hybridvit.weights.sources import WeightsWarning
from hybridvit.weights.store import WeightsError
from tests.parity import error, images, perturb
from tests.weights.examples import LABELS, logits

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}


def saved(model: Any, directory: Path, processor: dict[str, Any] | None = None) -> Any:
    """The transformers model with drawn weights, saved as its own library does it."""
    perturb(model)
    model.eval().save_pretrained(directory)
    if processor is not None:
        (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


def load(directory: Path, **changes: Any) -> Encoder:
    return hv.create_model(f"local-dir:{directory}", **changes)


def edit(directory: Path, **changes: Any) -> None:
    """Changes fields of a config.json; None removes one."""
    config = json.loads((directory / "config.json").read_text()) | changes
    config = {name: value for name, value in config.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("model_class", "config_class"),
    [
        (ViTForImageClassification, ViTConfig),
        (DeiTForImageClassification, DeiTConfig),
        (DeiTForImageClassificationWithTeacher, DeiTConfig),
    ],
    ids=["vit", "deit", "deit with teacher"],
)
def test_a_transformers_vit_of_any_numbers(model_class: Any, config_class: Any, tmp_path: Path) -> None:
    # A large eps, so that taking another one would show.
    config = config_class(**SMALL, layer_norm_eps=0.05, num_channels=2, id2label=dict(enumerate(LABELS)))
    theirs = saved(model_class(config), tmp_path)
    ours, batch = load(tmp_path), images(32, 32, channels=2)
    with torch.no_grad():
        assert error(logits(ours, batch), theirs(batch).logits) < 1e-4
    assert ours.labels == LABELS
    assert ours.origin is not None
    assert "architecture" not in ours.origin, "it is of no size in the zoo"
    assert ours.preprocess is None
    assert not ours.training


def test_two_classes_without_names(tmp_path: Path) -> None:
    """Their config does not mention the two classes that are its default: the file does."""
    theirs, batch = saved(ViTForImageClassification(ViTConfig(**SMALL)), tmp_path), images(32, 32)
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())
    ours = load(tmp_path)
    with torch.no_grad():
        assert error(logits(ours, batch), theirs(batch).logits) < 1e-4
    assert ours.labels is None


def test_a_transformers_model_without_a_classifier(tmp_path: Path) -> None:
    theirs, batch = saved(ViTModel(ViTConfig(**SMALL)), tmp_path), images(32, 32)
    ours = load(tmp_path)
    with torch.no_grad():
        assert error(logits(ours, batch), theirs(batch).last_hidden_state[:, 0]) < 1e-4
    assert load(tmp_path, num_classes=4).forward_head(torch.zeros(1, 48)).shape == (1, 4)


def test_a_transformers_cvt_of_any_numbers(tmp_path: Path) -> None:
    # transformers indexes the drop path rates of the blocks of a stage by the stage, so each needs enough of them.
    numbers: dict[str, Any] = {"embed_dim": [16, 24, 32], "depth": [1, 2, 3], "num_heads": [1, 2, 4]}
    config = CvtConfig(**numbers, id2label=dict(enumerate(LABELS)))
    theirs, batch = saved(CvtForImageClassification(config), tmp_path), images(48, 64)
    with torch.no_grad():
        assert error(logits(load(tmp_path), batch), theirs(batch).logits) < 1e-4


def test_a_transformers_vit_hybrid(tmp_path: Path) -> None:
    """The type is gone from transformers: the file is ours, in its layout, with the config that its releases have."""
    from hybridvit.components.norms import LayerNorm
    from hybridvit.components.pools import TokenPool
    from hybridvit.components.transitions import Patchify
    from hybridvit.families.vit_hybrid import FAMILY, bit_stages
    from hybridvit.trunks import Width, vit_stage

    norm = LayerNorm(eps=0.05)
    trunk = vit_stage(enter=Patchify(dim=48, patch=1), width=Width(48, 2, 3, 2), norm=norm)
    spec = FAMILY.model("vit_base_r50_s16_384").replace(
        stages=(*bit_stages(1, 2), trunk), pool=TokenPool(norm=norm), img_size=(64, 64), num_classes=5
    )
    model, batch = spec.build().eval(), images(64, 64)
    perturb(model)
    save_file(layouts_of(FAMILY)["transformers"](spec).to_theirs(model.state_dict()), tmp_path / "model.safetensors")
    backbone = {"model_type": "bit", "depths": [1, 2], "out_features": ["stage2"], "layer_type": "bottleneck"}
    backbone |= {"global_padding": "same", "embedding_dynamic_padding": True, "hidden_sizes": [256, 512]}
    config = {"model_type": "vit-hybrid", "layer_norm_eps": 0.05, "backbone_config": backbone, **SMALL}
    (tmp_path / "config.json").write_text(json.dumps(config | {"image_size": 64, "patch_size": 1}))
    ours = load(tmp_path)
    assert ours.spec == spec
    assert torch.equal(logits(ours, batch), logits(model, batch))


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ({}, "vit_tiny_patch16_224"),
        ({"image_size": 384}, "vit_tiny_patch16_384"),
        ({"image_size": 128}, "vit_tiny_patch16_224"),
        ({"num_attention_heads": 6}, None),
    ],
)
def test_released_sizes_are_recognised(numbers: dict[str, Any], name: str | None, tmp_path: Path) -> None:
    tiny: dict[str, Any] = {
        "hidden_size": 192,
        "num_hidden_layers": 12,
        "num_attention_heads": 3,
        "intermediate_size": 768,
    }
    saved(ViTForImageClassification(ViTConfig(**tiny | numbers)), tmp_path)
    model = load(tmp_path)
    assert (model.origin or {}).get("architecture") == name
    hv.save_pretrained(model, tmp_path / "ours")
    assert torch.equal(logits(load(tmp_path / "ours"), images(64, 64)), logits(model, images(64, 64)))


LEVIT, POOLFORMER, MOBILEVIT = (
    {"image_processor_type": f"{name}ImageProcessor", "do_flip_channel_order": False}
    for name in ("Levit", "PoolFormer", "MobileViT")
)
HALF, ALL = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        # vit, now and in old files: the whole image in a square
        ({"size": {"height": 32, "width": 48}, "resample": 2, **HALF}, ((32, 48), "bilinear", 1.0, "squash", ALL)),
        (
            {"size": 32, "resample": 3, "image_mean": [0.1] * 3, **{"image_std": ALL}},
            ((32, 32), "bicubic", 1.0, "squash", [0.1] * 3),
        ),
        # deit: squashed to 40, its centre cropped
        (
            {
                "size": {"height": 40, "width": 40},
                "do_center_crop": True,
                "crop_size": {"height": 32, "width": 32},
                "resample": 3,
            },
            ((32, 32), "bicubic", 0.8, "squash", ALL),
        ),
        # sides that are not square, in one proportion; and a share that just misses its size
        (
            {"size": {"height": 40, "width": 80}, "do_center_crop": True, "crop_size": {"height": 32, "width": 64}},
            ((32, 64), "bilinear", 0.8, "squash", ALL),
        ),
        (
            {"size": 75, "do_center_crop": True, "crop_size": 42},
            ((42, 42), "bilinear", math.nextafter(0.56, 0), "squash", ALL),
        ),
        # a crop size that is not used
        ({"size": 40, "do_center_crop": False, "crop_size": 32}, ((40, 40), "bilinear", 1.0, "squash", ALL)),
        # shortest edge, then a crop
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32},
            ((32, 32), "bilinear", 0.8, "center", ALL),
        ),
        # cvt, which has ConvNeXT's: cropped if small, squashed if large
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, ((224, 224), "bilinear", 0.875, "center", ALL)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, ((384, 384), "bilinear", 1.0, "squash", ALL)),
        ({"size": 32, "do_normalize": False, **HALF}, ((32, 32), "bilinear", 1.0, "squash", [0.0, 0.0, 0.0])),
        # a number alone is a shortest edge for some
        (
            {"size": 40, "do_center_crop": True, "crop_size": 32, "feature_extractor_type": "ConvNextFeatureExtractor"},
            ((32, 32), "bilinear", 0.8, "center", ALL),
        ),
        # LeViT's resizes to 256 where it says 224, PoolFormer's by the crop_pct that it crops with
        (
            {"size": {"shortest_edge": 28}, "do_center_crop": True, "crop_size": 28, **LEVIT},
            ((28, 28), "bilinear", 0.875, "center", ALL),
        ),
        (
            {"size": 32, "do_center_crop": True, "crop_size": 32, **POOLFORMER},
            ((32, 32), "bilinear", 0.9, "center", ALL),
        ),
        # MobileViT's does not normalise
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32, **MOBILEVIT},
            ((32, 32), "bilinear", 0.8, "center", [0.0, 0.0, 0.0]),
        ),
    ],
)
def test_image_processors(processor: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path) -> None:
    saved(ViTForImageClassification(ViTConfig(**SMALL)), tmp_path, processor)
    found = load(tmp_path).preprocess
    assert found is not None
    assert (found.input_size, found.interpolation, found.crop_pct, found.crop_mode, list(found.mean)) == expected


@pytest.mark.parametrize(
    ("size", "crop", "message"),
    [
        ({"height": 40, "width": 48}, {"height": 32, "width": 32}, "resizes images to 40x48 and crops 32x32 of that"),
        ({"shortest_edge": 40}, {"height": 32, "width": 24}, "to a shortest edge of 40 and crops 32x24 of that"),
        ({"height": 24, "width": 24}, 32, "to 24x24 and crops 32x32 of that"),
    ],
)
def test_a_processor_of_another_geometry_is_told(size: dict[str, int], crop: Any, message: str, tmp_path: Path) -> None:
    processor = {"size": size, "do_center_crop": True, "crop_size": crop, **HALF}
    saved(ViTForImageClassification(ViTConfig(**SMALL)), tmp_path, processor)
    with pytest.warns(WeightsWarning, match=message):
        found = load(tmp_path).preprocess
    assert found is not None
    assert found.input_size == ((crop, crop) if isinstance(crop, int) else tuple(crop.values()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "deit2"}, r"of type 'deit2'\. Did you mean 'deit'"),
        (
            {"hidden_act": "selu"},
            "a transformers model of type vit: hidden_act is 'selu', and only gelu, ",
        ),
        ({"patch_size": [8, 4]}, r"patch_size is \[8, 4\]"),
        ({"model_type": None}, r"neither hybridvit's \(format_version\), timm's"),
    ],
)
def test_a_config_that_cannot_be_built(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    saved(ViTForImageClassification(ViTConfig(**SMALL)), tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(WeightsError, match=message):
        load(tmp_path)


def test_a_config_that_does_not_fit_the_file(tmp_path: Path) -> None:
    saved(ViTForImageClassification(ViTConfig(**SMALL)), tmp_path)
    edit(tmp_path, num_hidden_layers=3)
    with pytest.raises(KeyMismatchError, match=r"missing: .*stages\.0\.blocks\.2\.branches\.0\.norm\.weight"):
        load(tmp_path)


# timm


def timm_saved(name: str, directory: Path, config: dict[str, Any] | None = None, **arguments: Any) -> Any:
    model = timm.create_model(name, **arguments).eval()
    perturb(model, batch_norm_gain=1.5)
    timm.models.save_for_hf(model, str(directory), model_config=config, safe_serialization=True)
    return model


def test_a_timm_directory(tmp_path: Path) -> None:
    descriptions = {"n1": "ant", "n2": "bee"}
    config = {"label_names": ["n1", "n2", "n3"], "label_descriptions": descriptions}
    arguments = {"num_classes": 3, "in_chans": 1, "img_size": (32, 48), "drop_path_rate": 0.2, "global_pool": "token"}
    theirs = timm_saved("vit_tiny_patch16_224", tmp_path, config, **arguments)
    ours, batch = load(tmp_path), images(32, 48, channels=1)
    assert error(logits(ours, batch), logits(theirs, batch)) < 1e-4
    assert ours.labels == ("ant", "bee", "n3")
    assert ours.preprocess is not None
    assert (ours.preprocess.input_size, ours.preprocess.crop_pct) == ((32, 48), 0.9)
    assert ours.origin is not None
    assert (ours.origin["architecture"], ours.origin["licence"]) == ("vit_tiny_patch16_224", "apache-2.0")
    assert load(tmp_path, num_classes=4).labels is None
    kept = load(tmp_path, num_classes=3)
    assert kept.labels == ours.labels
    assert torch.equal(logits(kept, batch), logits(ours, batch))


def test_a_pool_is_what_the_architecture_has(tmp_path: Path) -> None:
    """timm writes it into every config: of this one, that it attends."""
    theirs = timm_saved("test_vit3", tmp_path, num_classes=3, img_size=32)
    assert json.loads((tmp_path / "config.json").read_text())["model_args"]["global_pool"] == "map"
    batch = images(32, 32)
    assert error(logits(load(tmp_path), batch), logits(theirs, batch)) < 1e-4


def test_windows_that_follow_from_the_size(tmp_path: Path) -> None:
    """timm's MaxViT has windows of a share of the image; its Swin has none that are larger than a map."""
    for name, size in (("test_maxvit", 64), ("swin_tiny_patch4_window7_224", 32)):
        theirs = timm_saved(name, tmp_path / name, num_classes=3, img_size=size)
        if name == "swin_tiny_patch4_window7_224":
            with pytest.warns(WeightsWarning, match=r"at 32x32 timm's swin_tiny_patch4_window7_224 has other windows"):
                load(tmp_path / name)
        else:
            ours, batch = load(tmp_path / name).double(), images(size, size).double()
            assert error(logits(ours, batch), logits(theirs.double(), batch)) < 1e-4


@pytest.mark.parametrize("names", [{"0": "a", "1": "b"}, ["a", "b"], {"0": "a", "5": "b"}])
def test_timms_label_names(names: Any, tmp_path: Path) -> None:
    timm_saved("vit_tiny_patch16_224", tmp_path, num_classes=2, img_size=32, depth=12)
    edit(tmp_path, label_names=names, model_args={"img_size": 32})
    assert load(tmp_path).labels == (None if "5" in names else ("a", "b"))


@pytest.mark.parametrize(
    ("changes", "error_class", "message"),
    [
        (
            {"architecture": "vit_tiny_patch16_225"},
            UnknownNameError,
            "not in the zoo. Did you mean 'vit_tiny_patch16_2",
        ),
        ({"model_args": {"depth": 3}}, WeightsError, "changes vit_tiny_patch16_224 by depth=3"),
        ({"model_args": {"img_size": 32, "global_pool": "avg"}}, WeightsError, "by global_pool='avg'"),
    ],
)
def test_a_timm_config_that_cannot_be_built(
    changes: dict[str, Any], error_class: type[Exception], message: str, tmp_path: Path
) -> None:
    timm_saved("vit_tiny_patch16_224", tmp_path, num_classes=2, img_size=32)
    edit(tmp_path, **changes)
    with pytest.raises(error_class, match=message):
        load(tmp_path)


def _missing(tensors: dict[str, Any]) -> None:
    del tensors["norm.weight"], tensors["blocks.11.attn.qkv.bias"]


def _surplus(tensors: dict[str, Any]) -> None:
    tensors |= {"extra.weight": torch.ones(1), "blocks.0.gate": torch.ones(1)}


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (_missing, ["pool.norm.weight", "stages.0.blocks.11.branches.0.mixer.qkv.bias"]),
        (_surplus, ["extra.weight", "gate"]),
    ],
)
@pytest.mark.parametrize("num_classes", [None, 7])
def test_keys_that_do_not_fit_are_all_listed(
    damage: Callable[[dict[str, Any]], None], parts: list[str], num_classes: int | None, tmp_path: Path
) -> None:
    """Also when the classes change, which excuses the classifier alone."""
    timm_saved("vit_tiny_patch16_224", tmp_path, num_classes=2, img_size=32)
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(KeyMismatchError) as caught:
        load(tmp_path, num_classes=num_classes)
    assert all(part in str(caught.value) for part in parts)


def timm_directory(directory: Path, in_chans: int, **given: Any) -> str:
    """The name of a repository in timm's format, with more in its pretrained_cfg."""
    directory.mkdir()
    model = timm.create_model("levit_128s", num_classes=5, in_chans=in_chans)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, directory / "model.safetensors")
    config = {
        "architecture": "levit_128s",
        "num_classes": 5,
        "pretrained_cfg": {"num_classes": 5, "input_size": [in_chans, 224, 224], **given},
        "model_args": {"in_chans": in_chans},
    }
    (directory / "config.json").write_text(json.dumps(config))
    return f"local-dir:{directory}"


def test_a_size_that_is_asked_for_is_that_of_the_preprocessing(tmp_path: Path) -> None:
    name = timm_directory(tmp_path / "timm", 3, input_size=[3, 288, 288])
    for asked, size in ((None, 288), (224, 224), (256, 256), (288, 288)):
        model = hv.create_model(name, img_size=asked)
        assert model.preprocess is not None
        assert model.preprocess.input_size == (size, size)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_preprocessing_of_timm_is_for_its_channels(channels: int, tmp_path: Path) -> None:
    """Whatever timm's default of three is left in the config."""
    name = timm_directory(tmp_path / "timm", channels, mean=[0.3, 0.4, 0.5], std=[0.1, 0.2, 0.3])
    model = hv.create_model(name)
    assert model.preprocess is not None
    means = {1: [0.4], 3: [0.3, 0.4, 0.5], 4: [0.3, 0.4, 0.5, 0.3]}
    assert model.preprocess.mean == pytest.approx(means[channels])
    assert len(model.preprocess.std) == model.spec.in_chans == channels
