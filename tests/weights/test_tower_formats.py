"""Towers in larger files: ViTamin's of open_clip, with a projection without a bias, and Florence-2's."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models.davit import _convert_florence2

from hybridvit.keys import KeyMismatchError
from hybridvit.registry import family_of, model_spec
from hybridvit.weights.tower_formats import florence_rules, tower_layouts, vitamin_rules
from tests.parity import TOLERANCE, error, images, perturb


def test_a_tower_and_its_projection() -> None:
    """Equal to timm's model, whose classifier is made of the projection and no bias, as timm does it."""
    reference: Any = timm.create_model("vitamin_small_224", depth=1, num_classes=11, img_size=(64, 64))
    perturb(reference.eval())
    reference.head.bias.data.zero_()
    tower = {name: tensor for name, tensor in reference.state_dict().items() if not name.startswith("head.")}
    file = {f"trunk.{name}": tensor for name, tensor in tower.items()} | {"head.proj.weight": reference.head.weight}
    model = model_spec("vitamin_small_224").replace(img_size=(64, 64), num_classes=11)
    trunk = model.stages[3].replace(blocks=model.stages[3].blocks[:1])
    model = model.replace(stages=(*model.stages[:3], trunk))
    rules = vitamin_rules(model)
    ours = model.build().eval()
    ours.load_state_dict(rules.to_ours(file))
    with torch.no_grad():
        assert error(ours(images(64, 64)), reference(images(64, 64))) <= TOLERANCE
    back = rules.to_theirs(ours.state_dict())
    assert back.keys() == file.keys()
    assert all(torch.equal(back[name], file[name]) for name in file)
    ours.head.bias.data[3] = 0.5  # as training makes it
    with pytest.raises(KeyMismatchError, match=r"head\.proj has no bias there, and that of the model is not 0"):
        rules.to_theirs(ours.state_dict())


def test_other_families_have_none() -> None:
    assert tower_layouts("vit") == {}


@pytest.mark.parametrize("name", ["davit_base_fl", "davit_huge_fl"])
def test_florences_names_are_those_that_timm_reads(name: str) -> None:
    """timm's own conversion of a Florence-2 file gives timm's tensors, which ours gives too: all but the last norm."""
    model = model_spec(name)
    with torch.device("meta"):
        ours, timms = model.build().state_dict(), timm.create_model(name).state_dict()
    rules = florence_rules(model)
    tower = {key: tensor for key, tensor in ours.items() if key.startswith("stages.")}
    numbered = {key: torch.tensor(number) for number, key in enumerate(tower)}
    names = rules.to_theirs(numbered)
    back = family_of(name).layouts["timm"](model).to_theirs(numbered)
    file = {f"vision_tower.{key}": tensor for key, tensor in names.items()} | {"language_model.x": torch.zeros(1)}
    assert _convert_florence2(file, None) == back
    assert timms.keys() - back.keys() == {"head.norm.weight", "head.norm.bias"}
