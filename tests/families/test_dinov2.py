"""DINOv2 against timm, and the files of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model

from hybridvit.components.attention import Attention
from hybridvit.components.blocks import transformer_block
from hybridvit.components.heads import LinearHead
from hybridvit.components.mixers import GatedMlp, Mlp
from hybridvit.components.pools import TokenPool
from hybridvit.components.transitions import Patchify
from hybridvit.encoder import Model
from hybridvit.families.dinov2 import FAMILY
from hybridvit.trunks import NORM
from hybridvit.weights.layouts import layouts_of
from tests.parity import assert_parity, assert_power, perturb
from tests.timm_vit import assert_parity_and_power

# One of each combination of components.
CONFIGURATIONS = [
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parity_with_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name)


@pytest.mark.parametrize("name", ["vit_giant_patch14_dinov2", "vit_giant_patch14_reg1_tipsv2"])
def test_gated_mlps_match_timm(name: str) -> None:
    assert_parity_and_power(FAMILY, name, depth=1)


@pytest.mark.parametrize("gated", [False, True])
def test_parity_with_transformers(gated: bool, tmp_path: Path) -> None:
    """At the size it is built for: at others transformers resizes positions in another way."""
    numbers: dict[str, Any] = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 84,
        "patch_size": 14,
        "use_swiglu_ffn": gated,
    }
    reference: Any = Dinov2Model(Dinov2Config(**numbers))
    perturb(reference.eval())
    reference.save_pretrained(tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    mlp = GatedMlp(hidden=128) if gated else Mlp(hidden=192)
    stage = FAMILY.model("vit_small_patch14_dinov2").stages[0]
    block = transformer_block(Attention(heads=3), mlp, NORM, layer_scale=1e-5)
    stage = stage.replace(enter=Patchify(dim=48, patch=14), blocks=(block, block))
    model = Model(stages=(stage,), pool=TokenPool(norm=NORM), head=LinearHead(), img_size=(84, 84), num_classes=0)
    rules = layouts_of(FAMILY)["transformers"](model)
    ours = model.build().eval()
    ours.load_state_dict(rules.to_ours(theirs))
    back = rules.to_theirs(ours.state_dict())
    assert back.keys() == theirs.keys() - {"embeddings.mask_token"}
    assert all(torch.equal(back[key], theirs[key]) for key in back)
    assert_parity(ours, lambda images: reference(images).pooler_output, [(84, 84)])
    assert_power(ours, (84, 84))
