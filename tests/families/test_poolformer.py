"""PoolFormer against timm and transformers."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from transformers import PoolFormerConfig, PoolFormerForImageClassification

from hybridvit.components import NeighbourMean
from hybridvit.encoder import Encoder
from hybridvit.families.poolformer import FAMILY, poolformer
from hybridvit.spec import Grid
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb

SMALL: dict[str, Any] = {"dims": (32, 48, 64, 96), "depths": (1, 2, 2, 1)}
SIZES = [(224, 224), (256, 256), (128, 224), (75, 131), (33, 30)]


def timm_pair(name: str) -> tuple[Encoder, Any]:
    """The model, narrower and with fewer blocks, and timm's, with the same perturbed weights."""
    theirs: dict[str, Any] = {"num_classes": 10, "use_mlp_head": False, **SMALL}
    with torch.device("meta"):
        stages: Any = timm.create_model(name).stages
    if name.startswith("poolformer_"):
        theirs |= {"downsample_norm": None, "mlp_act": torch.nn.GELU, "mlp_bias": True}
        theirs |= {"layer_scale_init_values": 1.0, "res_scale_init_values": None}
    reference: Any = timm.models.MetaFormer(norm_layers=type(stages[0].blocks[0].norm1), **theirs)
    perturb(reference.eval())
    model = FAMILY.model(name, **SMALL).replace(num_classes=10)
    return load_from(reference, model, FAMILY.layouts["timm"](model)), reference


def transformers_pair() -> tuple[Encoder, Any]:
    """The same for transformers, which normalises the last map before it takes the mean."""
    labels = {index: str(index) for index in range(10)}
    config = PoolFormerConfig(hidden_sizes=SMALL["dims"], depths=SMALL["depths"], id2label=labels)
    reference = PoolFormerForImageClassification(config)
    perturb(reference.eval())
    model = poolformer(**SMALL, layer_scale=1.0, norm_first=True).replace(num_classes=10)
    return load_from(reference, model, layouts_of(FAMILY)["transformers"](model)), reference


@pytest.mark.parametrize("name", ["poolformer_s12", "poolformerv2_s12"])
def test_matches_timm(name: str) -> None:
    """At any size, for timm's convolutions drop what ours drop."""
    ours, reference = timm_pair(name)
    with torch.no_grad():
        for size in SIZES:
            batch = images(*size)
            last, maps = reference.forward_intermediates(batch)
            assert error(ours(batch), reference.forward_head(last)) <= TOLERANCE, size
            assert error(ours.embed(batch), reference.forward_head(last, pre_logits=True)) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), maps, strict=True):
                assert error(found, map_) <= TOLERANCE, size


def test_matches_transformers() -> None:
    ours, reference = transformers_pair()
    embeddings: list[Tensor] = []
    reference.classifier.register_forward_pre_hook(lambda module, args: embeddings.append(args[0]))
    with torch.no_grad():
        for size in [(128, 128), (75, 131)]:
            batch = images(*size)
            expected = reference(batch, output_hidden_states=True)
            assert error(ours(batch), expected.logits) <= TOLERANCE, size
            assert error(ours.embed(batch), embeddings[-1]) <= TOLERANCE, size
            for found, map_ in zip(ours.features(batch), expected.hidden_states, strict=True):
                assert error(found, map_) <= TOLERANCE, size


@pytest.mark.parametrize("name", ["poolformer_s12", "poolformerv2_s12"])
def test_every_parameter_matters(name: str) -> None:
    ours, _ = timm_pair(name)
    # What is added to all positions is in the mean of neighbours and in the position itself.
    assert_power(ours, (96, 96), samples=24, immaterial=("branches.0.norm.bias",))


def test_a_border_averages_what_is_inside() -> None:
    tokens = torch.arange(6.0).reshape(1, 6, 1)
    mixed = NeighbourMean().build(1, Grid(2, 3))(tokens, Grid(2, 3))
    means = [2.0, 2.5, 3.0] * 2
    assert mixed.flatten().tolist() == [mean - value for value, mean in enumerate(means)]


def test_every_name_of_timm_is_here() -> None:
    assert set(FAMILY.sizes) == set(timm.list_models("poolformer*"))
