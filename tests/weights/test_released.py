"""Every released checkpoint of the zoo fits: all keys and shapes, of timm's both ways; none of timm's is missing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.models import get_arch_pretrained_cfgs, is_model
from torchvision.models import get_model, get_model_weights
from transformers import AutoModelForImageClassification, CvtConfig, SwiftFormerConfig

from hybridvit.encoder import Encoder
from hybridvit.keys import KeyMismatchError, StateDict, check_keys
from hybridvit.meta import without_memory
from hybridvit.registry import family_of, index, model_spec
from hybridvit.weights.entries import WeightEntry, entries
from hybridvit.weights.from_torchvision import MODELS
from hybridvit.weights.layouts import layouts_of


def architectures() -> list[str]:
    """Those in the zoo that timm has under the same name."""
    return [name for name in index() if is_model(name) and "timm" in family_of(name).layouts]


def tags() -> list[str]:
    """Every released `arch.tag` of these."""
    return [
        name
        for architecture in architectures()
        for name, cfg in get_arch_pretrained_cfgs(architecture).items()
        if cfg.has_weights
    ]


def theirs(name: str, num_classes: int) -> tuple[Any, StateDict]:
    """timm's model of an `arch.tag`, without memory behind it, and its tensors."""
    with without_memory():
        model: Any = timm.create_model(name, num_classes=num_classes)
    return model, model.state_dict()


def head_counts(model: torch.nn.Module) -> list[int]:
    """Heads of one attention after the other, without repeats; no checkpoint's keys and shapes tell them."""
    counts = (getattr(module, "num_heads", getattr(module, "heads", None)) for module in model.modules())
    return [count for count, _ in itertools.groupby(count for count in counts if isinstance(count, int))]


def assert_same_pyramid(ours: Encoder, reference: Any) -> None:
    """Every map that both give has as many channels, but for the last of MobileViT: timm's follows its head's layer."""
    channels = {info["reduction"]: info["num_chs"] for info in reference.feature_info}
    for info in ours.feature_info:
        if not (info.stride == 32 and type(reference).__name__ == "ByobNet"):
            assert channels.get(info.stride, info.channels) == info.channels, info


def shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in tensors.items()}


@pytest.mark.parametrize("architecture", architectures())
def test_released_checkpoints_fit(architecture: str) -> None:
    """One model for all tags with the same classes and channels, of which there may be as many kinds as they like."""
    kinds: dict[tuple[Any, ...], str] = {}
    spec = model_spec(architecture)
    cfgs = {name: cfg for name, cfg in get_arch_pretrained_cfgs(architecture).items() if cfg.has_weights}
    for name, cfg in cfgs.items():
        size = cfg.input_size[1:] if cfg.fixed_input_size else None
        kinds.setdefault((cfg.num_classes, cfg.input_size[0], size), name)
    if not cfgs:
        kinds[(spec.num_classes, spec.in_chans, None)] = architecture
    for (num_classes, channels, size), name in kinds.items():
        model = spec.replace(num_classes=num_classes, in_chans=channels, img_size=size or spec.img_size)
        reference, tensors = theirs(name, num_classes)
        rules = family_of(architecture).layouts["timm"](model)
        with without_memory():
            ours = model.build()
        converted = rules.to_ours(tensors)
        check_keys(converted, ours.state_dict(), source=name)
        assert shapes(rules.to_theirs(converted)) == shapes(tensors), name
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters()), name
        if head_counts(ours):
            assert head_counts(ours) == head_counts(reference), name
        assert_same_pyramid(ours, reference)
    first = timm.get_pretrained_cfg(architecture)
    assert first is not None
    assert spec.img_size == tuple(first.input_size[1:])


def test_every_released_checkpoint_has_an_entry() -> None:
    assert set(tags()) <= entries().keys(), "run `python -m hybridvit.weights.from_timm`"


def of_others(layout: str) -> list[WeightEntry]:
    return [entry for entry in entries().values() if entry.layout == layout]


def assert_fits(entry: WeightEntry, tensors: StateDict) -> Encoder:
    """An entry's model and the rules of its layout take just these tensors, whose parameters are as many."""
    spec = model_spec(entry.architecture)
    spec = spec.replace(num_classes=entry.num_classes, img_size=entry.preprocess.input_size)
    rules = layouts_of(family_of(entry.architecture))[entry.layout](spec)
    with without_memory():
        ours = spec.build()
    check_keys(rules.to_ours(tensors), ours.state_dict(), source=entry.name)
    return ours


@pytest.mark.parametrize("entry", of_others("torchvision"), ids=lambda entry: entry.name)
def test_torchvisions_checkpoints_fit(entry: WeightEntry) -> None:
    """torchvision's model of the file that an entry names, at the size of its weights."""
    (theirs,) = [
        weights for name in MODELS for weights in get_model_weights(name) if f"url:{weights.url}" == entry.source
    ]
    builder = next(name for name in MODELS if theirs in list(get_model_weights(name)))
    size = {"image_size": entry.preprocess.input_size[0]} if builder.startswith("vit_") else {}
    with without_memory():
        reference = get_model(builder, **size)
    ours = assert_fits(entry, reference.state_dict())
    count = sum(parameter.numel() for parameter in ours.parameters())
    keyless = sum(tensor.numel() // 3 for name, tensor in reference.state_dict().items() if name.endswith("qkv.bias"))
    assert theirs.meta["num_params"] == count + (keyless if "swin_v2" in builder else 0)


TRANSFORMERS: dict[str, Any] = {
    "swiftformer_xs_unscored": SwiftFormerConfig(depths=[3, 3, 6, 4], embed_dims=[48, 56, 112, 220]),
    "swiftformer_s_unscored": SwiftFormerConfig(depths=[3, 3, 9, 6], embed_dims=[48, 64, 168, 224]),
    "swiftformer_l1_unscored": SwiftFormerConfig(depths=[4, 3, 10, 5], embed_dims=[48, 96, 192, 384]),
    "swiftformer_l3_unscored": SwiftFormerConfig(depths=[4, 4, 12, 6], embed_dims=[64, 128, 320, 512]),
    "cvt_13": CvtConfig(),
    "cvt_21": CvtConfig(depth=[1, 4, 16]),
    "cvt_w24": CvtConfig(depth=[2, 2, 20], num_heads=[3, 12, 16], embed_dim=[192, 768, 1024]),
}


@pytest.mark.parametrize("entry", of_others("transformers"), ids=lambda entry: entry.name)
def test_transformers_checkpoints_fit(entry: WeightEntry) -> None:
    """transformers' class with the numbers that its authors' repositories have."""
    config = TRANSFORMERS[entry.architecture.removesuffix("_384")]
    config.num_labels = entry.num_classes
    with without_memory():
        reference: Any = AutoModelForImageClassification.from_config(config)
    tensors = reference.state_dict()
    if entry.architecture.startswith("cvt"):
        assert_fits_one_of(entry, tensors)
    else:
        assert_fits(entry, tensors)


def assert_fits_one_of(entry: WeightEntry, tensors: StateDict) -> None:
    """In memory names may be others than in files."""
    names = [name for name in layouts_of(family_of(entry.architecture)) if name.startswith("transformers")]
    failures = []
    for name in names:
        try:
            assert_fits(replace(entry, layout=name), tensors)
        except KeyMismatchError as error:
            failures.append(str(error))
    assert len(failures) < len(names), failures


OPEN_CLIP = of_others("open_clip")


@pytest.mark.parametrize("entry", [OPEN_CLIP[0], OPEN_CLIP[-1]], ids=lambda entry: entry.name)
def test_open_clips_checkpoints_fit(entry: WeightEntry) -> None:
    assert_open_clips_fits(entry)


@pytest.mark.slow
@pytest.mark.parametrize("entry", OPEN_CLIP[1:-1], ids=lambda entry: entry.name)
def test_open_clips_other_checkpoints_fit(entry: WeightEntry) -> None:
    assert_open_clips_fits(entry)


def assert_open_clips_fits(entry: WeightEntry) -> None:
    """timm's tower without its classifier, and open_clip's projection behind it."""
    reference, tensors = theirs(entry.name, 0)
    named = {f"trunk.{name}": tensor for name, tensor in tensors.items()}
    named["head.proj.weight"] = torch.empty(entry.num_classes, reference.num_features, device="meta")
    assert_fits(entry, named)
