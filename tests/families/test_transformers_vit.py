"""transformers' `vit` and `deit` layouts: live models of its current version, in memory and in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    DeiTModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from hybridvit.components.heads import DistilledHead, LinearHead
from hybridvit.components.pools import TokenPool
from hybridvit.components.transitions import Patchify
from hybridvit.encoder import Model
from hybridvit.families import Family, deit, vit
from hybridvit.keys import KeyMismatchError, KeyRules
from hybridvit.trunks import NORM, Width, vit_stage
from hybridvit.weights.layouts import layouts_of
from tests.parity import assert_parity, assert_power, load_from, perturb

WIDTH = Width(dim=48, depth=2, heads=3)
NUMBERS: dict[str, Any] = {
    "hidden_size": WIDTH.dim,
    "num_hidden_layers": WIDTH.depth,
    "num_attention_heads": WIDTH.heads,
    "intermediate_size": 4 * WIDTH.dim,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
    "num_labels": 11,
}


def spec(img_size: tuple[int, int], tokens: int = 1, num_classes: int = 11) -> Model:
    stage = vit_stage(enter=Patchify(dim=WIDTH.dim, patch=8), width=WIDTH, prefix=tokens)
    return Model(
        stages=(stage,),
        pool=TokenPool(norm=NORM, tokens=tokens),
        head=LinearHead() if tokens == 1 else DistilledHead(),
        img_size=img_size,
        num_classes=num_classes,
    )


def saved(reference: Any, directory: Path) -> dict[str, Tensor]:
    reference.save_pretrained(directory)
    return load_file(directory / "model.safetensors")


def assert_bit_exact(rules: KeyRules, theirs: dict[str, Tensor]) -> None:
    back = rules.to_theirs(rules.to_ours(theirs))
    assert back.keys() == {key for key in theirs if not key.startswith("pooler")}
    assert all(torch.equal(back[key], theirs[key]) for key in back)


@pytest.mark.parametrize("img_size", [(64, 64), (48, 80)])
@pytest.mark.parametrize(
    ("family", "tokens", "config", "classifier"),
    [
        (vit.FAMILY, 1, ViTConfig, ViTForImageClassification),
        (deit.FAMILY, 1, ViTConfig, ViTForImageClassification),
        (deit.FAMILY, 2, DeiTConfig, DeiTForImageClassificationWithTeacher),
    ],
)
def test_parity_with_transformers(
    family: Family, tokens: int, config: Any, classifier: Any, img_size: tuple[int, int], tmp_path: Path
):
    reference = classifier(config(**NUMBERS, image_size=img_size)).eval()
    perturb(reference)
    model = spec(img_size, tokens)
    ours = load_from(reference, model, layouts_of(family)["transformers-v5"](model))
    assert_parity(ours, lambda images: reference(images).logits, [img_size])
    files = layouts_of(family)["transformers"](model)
    theirs = saved(reference, tmp_path)
    assert_bit_exact(files, theirs)
    for key, tensor in files.to_ours(theirs).items():
        assert torch.equal(ours.state_dict()[key], tensor), key
    assert_power(ours, img_size)


@pytest.mark.parametrize(
    ("family", "tokens", "config", "base"),
    [(vit.FAMILY, 1, ViTConfig, ViTModel), (deit.FAMILY, 2, DeiTConfig, DeiTModel)],
)
def test_without_a_classifier_the_pooler_is_dropped(
    family: Family, tokens: int, config: Any, base: Any, tmp_path: Path
):
    reference = base(config(**NUMBERS, image_size=64)).eval()
    perturb(reference)
    model = spec((64, 64), tokens, num_classes=0)
    for layout, theirs in (("transformers-v5", reference.state_dict()), ("transformers", saved(reference, tmp_path))):
        rules = layouts_of(family)[layout](model)
        assert "pooler.dense.weight" in theirs
        assert_bit_exact(rules, theirs)
        ours = model.build().eval()
        ours.load_state_dict(rules.to_ours(theirs))
        assert_parity(ours.embed, lambda images: reference(images).last_hidden_state[:, :tokens].flatten(1), [(64, 64)])


def test_the_layouts_do_not_take_each_other_s_names(tmp_path: Path):
    reference = ViTForImageClassification(ViTConfig(**NUMBERS, image_size=64))
    model = spec((64, 64))
    with pytest.raises(KeyMismatchError, match=r"vit\.layers\.1\.mlp\.fc2\.bias"):
        layouts_of(vit.FAMILY)["transformers"](model).to_ours(reference.state_dict())
    with pytest.raises(KeyMismatchError, match=r"vit\.encoder\.layer\.1\.output\.dense\.bias"):
        layouts_of(vit.FAMILY)["transformers-v5"](model).to_ours(saved(reference, tmp_path))


def test_what_transformers_lacks_is_refused():
    """Layer scale has no name there: nothing may be left out in silence."""
    model = deit.FAMILY.model("deit3_small_patch16_224")
    with torch.device("meta"):
        ours = model.build().state_dict()
    with pytest.raises(KeyMismatchError, match="layer_scale"):
        layouts_of(deit.FAMILY)["transformers"](model).to_theirs(ours)
