"""Every checkpoint that timm releases of an architecture in the zoo fits ours: all keys and shapes, both ways."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import timm
import torch
from timm.models import get_arch_pretrained_cfgs, is_model

from hybridvit.encoder import Encoder
from hybridvit.keys import StateDict, check_keys
from hybridvit.meta import without_memory
from hybridvit.registry import family_of, index, model_spec
from hybridvit.weights.entries import entries

TIMM = "hf:timm/"


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
    """Entries are timm's repositories; a checkpoint that lies elsewhere on the Hub has none."""
    hosted = {
        name
        for architecture in architectures()
        for name, cfg in get_arch_pretrained_cfgs(architecture).items()
        if str(cfg.hf_hub_id or "").startswith("timm/")
    }
    ours = {name for name, entry in entries().items() if entry.source.startswith(TIMM)}
    assert ours == hosted, "run `python -m hybridvit.weights.from_timm`"
