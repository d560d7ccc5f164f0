"""CvT against transformers, and the layout of Microsoft's checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CvtConfig, CvtForImageClassification
from transformers.activations import QuickGELUActivation

from hybridvit.encoder import Encoder
from hybridvit.families.cvt import FAMILY, ConvAttention, cvt
from hybridvit.keys import check_keys
from hybridvit.spec import Grid, SpecError
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

SIZES = [(64, 64), (96, 96), (64, 104), (75, 61)]
# transformers indexes the drop path rates of the blocks of a stage by the stage, so the last needs three blocks.
SMALL: dict[str, Any] = {"dims": (32, 48, 96), "depths": (1, 2, 3), "heads": (1, 3, 6)}


def small_pair(act: str = "gelu") -> tuple[Encoder, CvtForImageClassification]:
    """A narrow CvT and transformers', with the same perturbed weights."""
    reference = CvtForImageClassification(config(**SMALL)).eval()
    if act == "quick_gelu":
        for stage in reference.cvt.encoder.stages:
            for layer in stage.layers:  # pyright: ignore[reportGeneralTypeIssues]
                layer.intermediate.activation = QuickGELUActivation()
    perturb(reference)
    model = cvt(**SMALL, act=act).replace(img_size=(64, 64), num_classes=10)
    return load_from(reference, model, layouts_of(FAMILY)["transformers"](model)), reference


def config(dims: Any, depths: Any, heads: Any, img_size: int = 0, classes: int = 10) -> CvtConfig:
    labels = {index: str(index) for index in range(classes)}
    return CvtConfig(embed_dim=list(dims), depth=list(depths), num_heads=list(heads), id2label=labels)


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_matches_transformers(act: str) -> None:
    ours, reference = small_pair(act)
    embeddings: list[Tensor] = []
    reference.classifier.register_forward_pre_hook(lambda module, args: embeddings.append(args[0]))
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size)
            expected = reference(batch, output_hidden_states=True)
            assert error(ours(batch), expected.logits) <= TOLERANCE, size
            assert error(ours.embed(batch), embeddings[-1]) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), expected.hidden_states, strict=True):
                assert error(found, map_) <= TOLERANCE, size


def test_every_parameter_matters() -> None:
    ours, _ = small_pair()
    assert_power(ours, (64, 64), samples=24)


@pytest.mark.parametrize("name", FAMILY.sizes)
def test_keys_and_shapes_of_every_size(name: str) -> None:
    model = FAMILY.model(name)
    with torch.device("meta"):
        reference = CvtForImageClassification(config(**FAMILY.sizes[name], classes=1000))
        ours = model.build()
    check_keys(layouts_of(FAMILY)["transformers"](model).to_ours(reference.state_dict()), ours.state_dict())
    assert [info.stride for info in ours.feature_info] == [4, 8, 16]


def test_original_layout_has_microsofts_names() -> None:
    model = FAMILY.model("cvt_13")
    with torch.device("meta"):
        ours = model.build().state_dict()
    layout = FAMILY.layouts["original"](model)
    theirs = layout.to_theirs(ours)
    last_block = {name for name in theirs if name.startswith("stage2.blocks.9.")}
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    linear = [f"{name}.{part}" for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2") for part in ("weight", "bias")]
    linear += [f"attn.{name}.{part}" for name in ("proj", "proj_q", "proj_k", "proj_v") for part in ("weight", "bias")]
    convs = [f"attn.conv_proj_{i}.conv.weight" for i in "qkv"]
    norms = [f"attn.conv_proj_{i}.bn.{part}" for i in "qkv" for part in batch_norm]
    assert last_block == {f"stage2.blocks.9.{name}" for name in (*linear, *convs, *norms)}
    ends = {"stage2.cls_token", "norm.weight", "norm.bias", "head.weight", "head.bias"}
    embeddings = {
        f"stage{s}.patch_embed.{n}.{p}" for s in range(3) for n in ("proj", "norm") for p in ("weight", "bias")
    }
    assert {name for name in theirs if ".blocks." not in name} == ends | embeddings
    assert layout.to_ours(theirs).keys() == ours.keys()


def test_keys_and_values_are_strided_and_the_class_token_is_kept() -> None:
    ours, _ = small_pair()
    shapes = [tuple(weights.shape) for weights in ours.attention_maps(images(75, 61)).values()]
    assert shapes == [(3, 1, 19 * 15, 10 * 8), *[(3, 3, 10 * 8, 5 * 4)] * 2, *[(3, 6, 1 + 5 * 4, 1 + 3 * 2)] * 3]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SpecError, match="5 heads do not divide width 64"):
        ConvAttention(heads=5).build(64, Grid(4, 4))
