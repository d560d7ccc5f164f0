"""Hybrid ViT against timm, in float64 (see test_resnetv2), and the layout of transformers' deleted `vit-hybrid`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from hybridvit.encoder import Encoder, Model
from hybridvit.families.vit_hybrid import FAMILY
from hybridvit.keys import KeyMismatchError, check_keys
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_power, error, features_and_embedding, images, load_from, perturb

# Only a stem, BiT's ResNet, the ResNet-D; with the modules of timm's whose outputs are the maps before the ViT's.
MAPS = {
    "vit_tiny_r_s16_p8_224": ("norm", "pool"),
    "vit_small_r26_s32_224": ("stem.norm", "stages.0", "stages.1", "stages.2"),
    "vit_small_resnet50d_s16_224": ("act1", "layer1", "layer2"),
}
DEPTH = 2


def shallow(name: str, **changes: Any) -> Model:
    """The model with two transformer blocks."""
    model = FAMILY.model(name)
    *backbone, trunk = model.stages
    return model.replace(stages=(*backbone, trunk.replace(blocks=trunk.blocks[:DEPTH])), **changes)


@functools.cache
def pair(name: str) -> tuple[Any, Encoder]:
    reference: Any = timm.create_model(
        name, depth=DEPTH, num_classes=11, img_size=128, dynamic_img_size=True, dynamic_img_pad=True
    ).eval()
    perturb(reference)
    perturb(reference.patch_embed.backbone)  # by itself, for its names have "embed" in them here
    model = shallow(name, num_classes=11, img_size=(128, 128))
    return reference.double(), load_from(reference, model, FAMILY.layouts["timm"](model)).double()


def outputs(model: nn.Module, parts: list[nn.Module], batch: Tensor) -> list[Tensor]:
    """What the parts give while the model runs."""
    seen: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    handles = [part.register_forward_hook(record) for part in parts]
    model(batch)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("size", [(128, 128), (160, 160), (96, 160), (97, 130)])
@pytest.mark.parametrize("name", list(MAPS))
def test_parity_with_timm(name: str, size: tuple[int, int]):
    reference, ours = pair(name)
    batch = images(*size).double()
    parts = [reference.patch_embed.backbone.get_submodule(part) for part in MAPS[name]]
    with torch.no_grad():
        *expected, tokens = outputs(reference, [*parts, reference.blocks[-1]], batch)
        (*maps, last), embedding = features_and_embedding(ours, batch)
        for actual, its in zip(maps, expected, strict=True):
            assert error(actual, its) <= TOLERANCE, f"{tuple(its.shape)}"
        assert error(last.flatten(2).mT, tokens[:, 1:]) <= TOLERANCE
        pooled = reference.forward_features(batch)
        assert error(embedding, reference.forward_head(pooled, pre_logits=True)) <= TOLERANCE
        assert error(ours.forward_head(embedding), reference.forward_head(pooled)) <= TOLERANCE


@pytest.mark.parametrize("name", list(MAPS))
def test_parity_is_not_blind(name: str):
    theirs = pair(name)[1]
    ours = theirs.spec.build().eval()
    ours.load_state_dict({key: tensor.float() for key, tensor in theirs.state_dict().items()})
    assert_power(ours, (96, 96), samples=6)


@pytest.mark.parametrize("name", list(FAMILY.sizes))
def test_strides(name: str):
    with torch.device("meta"):
        model = FAMILY.model(name).build()
    strides = [info.stride for info in model.feature_info]
    assert strides == ([2, 4, 32] if "_r_" in name else [2, 4, 8, 16] if "s16" in name else [2, 4, 8, 16, 32])
    assert model.feature_info[-1].channels == model.num_features


DEPTHS = (3, 4, 9)
BACKBONE = "embeddings.patch_embeddings.backbone.bit"


def released_names(depth: int) -> Iterator[tuple[str, str]]:
    """Names in files of `vit-hybrid` as in google/vit-hybrid-base-bit-384, each with timm's for the same tensor.

    Written down from transformers 4.46, the last release that has the model.
    """
    both = ("weight", "bias")
    yield "embeddings.cls_token", "cls_token"
    yield "embeddings.position_embeddings", "pos_embed"
    yield f"{BACKBONE}.embedder.convolution.weight", "patch_embed.backbone.stem.conv.weight"
    yield from ((f"{BACKBONE}.embedder.norm.{part}", f"patch_embed.backbone.stem.norm.{part}") for part in both)
    for stage, blocks in enumerate(DEPTHS):
        for block in range(blocks):
            theirs = f"{BACKBONE}.encoder.stages.{stage}.layers.{block}"
            timms = f"patch_embed.backbone.stages.{stage}.blocks.{block}"
            if block == 0:
                yield f"{theirs}.downsample.conv.weight", f"{timms}.downsample.conv.weight"
                yield from ((f"{theirs}.downsample.norm.{part}", f"{timms}.downsample.norm.{part}") for part in both)
            for layer in (1, 2, 3):
                yield f"{theirs}.conv{layer}.weight", f"{timms}.conv{layer}.weight"
                yield from ((f"{theirs}.norm{layer}.{part}", f"{timms}.norm{layer}.{part}") for part in both)
    layers = {
        "attention.attention.query": "attn.qkv",
        "attention.attention.key": "attn.qkv",
        "attention.attention.value": "attn.qkv",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
    }
    for part in both:
        yield f"embeddings.patch_embeddings.projection.{part}", f"patch_embed.proj.{part}"
        for layer in range(depth):
            for theirs, timms in layers.items():
                yield f"encoder.layer.{layer}.{theirs}.{part}", f"blocks.{layer}.{timms}.{part}"
        yield f"layernorm.{part}", f"norm.{part}"


def as_released(timms: dict[str, Tensor], depth: int, classifier: bool = True) -> dict[str, Tensor]:
    """timm's tensors as a file of `vit-hybrid` holds them: below `vit.`, or without classifier at the top."""
    released: dict[str, Tensor] = {}
    for name, source in released_names(depth):
        tensor = timms[source]
        for index, part in enumerate(("query", "key", "value")):
            if f".{part}." in name:
                tensor = tensor.chunk(3)[index]
        released[("vit." if classifier else "") + name] = tensor
    if classifier:
        return released | {f"classifier.{part}": timms[f"head.{part}"] for part in ("weight", "bias")}
    dim = timms["norm.weight"].shape[0]
    return released | {"pooler.dense.weight": torch.ones(dim, dim), "pooler.dense.bias": torch.ones(dim)}


def test_released_vit_hybrid_fits():
    """Every name and shape of google/vit-hybrid-base-bit-384, with and without its classifier, and nothing else."""
    with torch.device("meta"):
        timms = timm.create_model("vit_base_r50_s16_384").state_dict()
        for classifier in (True, False):
            model = FAMILY.model("vit_base_r50_s16_384").replace(num_classes=1000 * classifier)
            rules = layouts_of(FAMILY)["transformers"](model)
            released = as_released(timms, depth=12, classifier=classifier)
            assert len(released) == 356
            ours = rules.to_ours(released)
            check_keys(ours, model.build().state_dict())
            released = {name: tensor for name, tensor in released.items() if not name.startswith("pooler")}
            check_keys(rules.to_theirs(ours), released)
            with pytest.raises(KeyMismatchError, match="mask_token"):
                rules.to_ours(released | {"vit.embeddings.mask_token": torch.empty(1, 1, 768)})


def test_vit_hybrid_layouts_hold_the_same_network():
    """The same numbers, read in timm's layout and in transformers', give the same logits, and come back bit for bit."""
    name = "vit_base_r50_s16_384"
    reference = timm.create_model(name, depth=DEPTH, num_classes=11, img_size=96).eval()
    perturb(reference)
    model = shallow(name, num_classes=11, img_size=(96, 96))
    timms = reference.state_dict()
    released = as_released(timms, DEPTH)
    rules = layouts_of(FAMILY)["transformers"](model)
    back = rules.to_theirs(rules.to_ours(released))
    assert back.keys() == released.keys()
    assert all(torch.equal(back[key], released[key]) for key in released)
    models = [model.build().eval() for _ in range(2)]
    models[0].load_state_dict(rules.to_ours(released))
    models[1].load_state_dict(FAMILY.layouts["timm"](model).to_ours(timms))
    with torch.no_grad():
        logits = [built(images(96, 128)) for built in models]
    assert torch.equal(*logits)
