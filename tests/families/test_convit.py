"""ConViT against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from hybridvit.encoder import Encoder
from hybridvit.families.convit import FAMILY
from hybridvit.spec import Grid
from tests.parity import TOLERANCE, assert_power, error, images, load_from, perturb


def pair(img_size: int) -> tuple[Any, Encoder]:
    """Two gated blocks and one other, built for a square, with the same perturbed weights."""
    reference: Any = timm.create_model(
        "convit_tiny", depth=3, local_up_to_layer=2, embed_dim=16, img_size=img_size, num_classes=11
    )
    perturb(reference.eval())
    model = FAMILY.build(heads=4, depth=3, gated=2, head_dim=16).replace(img_size=(img_size, img_size), num_classes=11)
    return reference, load_from(reference, model, FAMILY.layouts["timm"](model))


@pytest.mark.parametrize("size", [96, 128])
def test_matches_timm(size: int) -> None:
    """timm runs a square only, the one that a model is built for."""
    reference, ours = pair(size)
    batch = images(size, size)
    with torch.no_grad():
        last, maps = reference.forward_intermediates(batch)
        assert error(ours.embed(batch), reference.forward_head(last, pre_logits=True)) <= TOLERANCE
        assert error(ours(batch), reference(batch)) <= TOLERANCE
        assert error(ours.features(batch)[0], maps[-1]) <= TOLERANCE
    assert_power(ours, (size, size), samples=24, immaterial=("position.bias",))


def test_weights_by_position_of_a_rectangle() -> None:
    """A cut out of a square has the same scores between its positions, and sums to 1 over its own."""
    _, ours = pair(96)
    attention: Any = ours.get_submodule("stages.0.blocks.0.branches.0.mixer")
    with torch.no_grad():
        whole = attention.by_position(Grid(6, 6))[0].unflatten(1, (6, 6)).unflatten(3, (6, 6))
        cut = whole[:, :4, :, :4].flatten(3, 4).flatten(1, 2)
        found = attention.by_position(Grid(4, 6))[0]
    torch.testing.assert_close(found, cut / cut.sum(dim=-1, keepdim=True))


def test_maps_mix_content_and_position() -> None:
    _, ours = pair(96)
    attend: Any = ours.get_submodule("stages.0.blocks.0.branches.0.mixer.attend")
    attend.gate.data.fill_(50.0)
    maps = ours.attention_maps(images(64, 96))
    attention: Any = ours.get_submodule("stages.0.blocks.0.branches.0.mixer")
    expected = attention.by_position(Grid(4, 6)).expand(3, -1, -1, -1)
    torch.testing.assert_close(maps["stages.0.blocks.0.branches.0.mixer"], expected)


def test_a_fresh_head_looks_at_one_place() -> None:
    """Nine heads look at the nine positions around and at their own."""
    model = FAMILY.model("convit_small").replace(img_size=(80, 80)).build()
    attention: Any = model.get_submodule("stages.0.blocks.0.branches.0.mixer")
    middle = attention.by_position(Grid(5, 5))[0, :, 12].unflatten(1, (5, 5))
    found = {divmod(int(weights.argmax()), 5) for weights in middle}
    assert found == {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)}


def test_rules_count_blocks_through() -> None:
    model = FAMILY.model("convit_tiny")
    rules = FAMILY.layouts["timm"](model)
    assert "blocks.11.attn.qkv.weight" in rules.to_theirs(model.build().state_dict())
