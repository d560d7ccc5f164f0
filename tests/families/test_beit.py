"""BEiT against timm and transformers."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from transformers import BeitConfig, BeitForImageClassification

from hybridvit import adapt
from hybridvit.encoder import Encoder
from hybridvit.families.beit import FAMILY, beit
from hybridvit.keys import check_keys
from hybridvit.spec import SpecError
from hybridvit.trunks import LayerNorm
from hybridvit.weights.layouts import layouts_of
from tests.parity import TOLERANCE, assert_parity, assert_power, error, images, load_from, perturb


def pair(size: tuple[int, int]) -> tuple[Any, Encoder]:
    """timm's model and ours, two blocks deep, built for a size, with the same perturbed weights."""
    reference: Any = timm.create_model("beit_base_patch16_224", depth=2, num_classes=11, img_size=size)
    perturb(reference.eval())
    model = FAMILY.model("beit_base_patch16_224").replace(img_size=size, num_classes=11)
    stage = model.stages[0]
    model = model.replace(stages=(stage.replace(blocks=stage.blocks[:2]),))
    return reference, load_from(reference, model, FAMILY.layouts["timm"](model))


@pytest.mark.parametrize("size", [(96, 96), (128, 128), (80, 144)])
def test_parity_with_timm(size: tuple[int, int]) -> None:
    """timm runs a model at the size that it is built for only."""
    reference, ours = pair(size)
    with torch.no_grad():
        last, maps = reference.forward_intermediates(images(*size), indices=1)
        embedding = ours.embed(images(*size))
        assert error(ours.features(images(*size))[0], maps[0]) <= TOLERANCE
        assert error(embedding, reference.forward_head(last, pre_logits=True)) <= TOLERANCE
        assert error(ours.forward_head(embedding), reference.forward_head(last)) <= TOLERANCE


def test_every_parameter_matters() -> None:
    assert_power(pair((96, 96))[1], (96, 96), samples=24)


@pytest.mark.filterwarnings("ignore::UserWarning:timm.layers.interpolate")
def test_another_size_with_the_same_weights() -> None:
    """At run time, and once and for all, as timm's set_input_size does it."""
    size = (80, 144)
    reference, ours = pair((96, 96))
    reference.set_input_size(size)
    resized = adapt.with_img_size(ours, size)
    with torch.no_grad():
        expected = reference(images(*size))
        assert error(ours(images(*size)), expected) <= TOLERANCE
        assert error(resized(images(*size)), expected) <= TOLERANCE


@pytest.mark.parametrize("classes", [7, 0])
def test_parity_with_transformers(classes: int) -> None:
    config = BeitConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        image_size=96,
        use_relative_position_bias=True,
        use_mean_pooling=True,
        id2label={label: str(label) for label in range(7)},
    )
    reference: Any = BeitForImageClassification(config)
    perturb(reference.eval())
    if not classes:
        reference = reference.beit
    model = beit(width="tiny", patch=16, norm=LayerNorm(eps=1e-12)).replace(img_size=(96, 96))
    stage = model.stages[0]
    attend, mlp = stage.blocks[0].branches
    block = stage.blocks[0].replace(
        branches=(
            attend.replace(mixer=attend.mixer.replace(heads=4)),
            mlp.replace(mixer=mlp.mixer.replace(hidden=256)),
        )
    )
    stage = stage.replace(enter=stage.enter.replace(dim=64), blocks=(block, block))
    model = model.replace(stages=(stage,), num_classes=classes)
    # In memory the names are version 5's; a file has those that the rules know.
    ours = load_from_file(reference, model)
    sizes = [(96, 96), (128, 96)]
    if classes:
        assert_parity(ours, lambda x: reference(x, interpolate_pos_encoding=True).logits, sizes[:1])
    else:
        assert_parity(ours.embed, lambda x: reference(x, interpolate_pos_encoding=True).pooler_output, sizes[:1])


def load_from_file(reference: Any, model: Any) -> Encoder:
    """Ours with the tensors that the reference would write."""
    import tempfile

    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as directory:
        reference.save_pretrained(directory)
        tensors = load_file(f"{directory}/model.safetensors")
    converted = layouts_of(FAMILY)["transformers"](model).to_ours(tensors)
    with torch.device("meta"):
        ours = model.build()
    check_keys(converted, ours.state_dict())
    ours.load_state_dict(converted, assign=True)
    return ours.eval()


def test_one_prefix_token() -> None:
    model = FAMILY.model("beit_base_patch16_224")
    with pytest.raises(SpecError, match="one prefix token, the class token, not for 2"), torch.device("meta"):
        model.replace(stages=(model.stages[0].replace(prefix=2),)).build()
