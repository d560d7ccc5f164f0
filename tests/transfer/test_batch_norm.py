"""What batch norms do while the rest is trained."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hybridvit.encoder import Encoder
from hybridvit.registry import model_spec
from hybridvit.transfer.batch_norm import hold_batch_norm
from hybridvit.transfer.data import Data
from hybridvit.transfer.recipe import Recipe
from tests.transfer.samples import FAST, tiny, trainer_of


def with_batch_norms() -> Encoder:
    torch.manual_seed(0)
    return model_spec("levit_128s").replace(img_size=(16, 16), in_chans=1, num_classes=3).build()


def norms(model: Encoder) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("policy", "batch_size", "pretrained", "trains"),
    [
        ("auto", 32, True, False),
        ("auto", 33, True, True),
        ("auto", 8, False, True),
        ("train", 8, True, True),
        ("statistics", 512, False, False),
        ("freeze", 512, False, False),
    ],
)
def test_which_norms_stay_in_eval_mode(policy: str, batch_size: int, pretrained: bool, trains: bool) -> None:
    model = with_batch_norms()
    hold_batch_norm(model, Recipe(batch_norm=policy, batch_size=batch_size), pretrained)
    assert {norm.training for norm in norms(model)} == {trains}
    for _ in range(2):
        model.eval()
        model.train()
        assert {norm.training for norm in norms(model)} == {trains}
    assert model.stages[0].training
    assert {norm.weight.requires_grad for norm in norms(model)} == {policy != "freeze"}


def test_a_copy_holds_its_own_norms_and_they_can_be_let_go() -> None:
    from copy import deepcopy

    model = with_batch_norms()
    hold_batch_norm(model, Recipe(batch_norm="statistics"), True)
    copied = deepcopy(model)
    hold_batch_norm(copied, Recipe(batch_norm="train"), True)
    assert all(norm.training for norm in norms(copied.train()))
    assert not any(norm.training for norm in norms(model.train()))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["train", "statistics", "freeze"])
def test_what_a_run_changes(rows: Data, tmp_path: Path, policy: str) -> None:
    model = with_batch_norms()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer_of(rows, tmp_path, FAST.replace(epochs=1, batch_norm=policy), model).fit()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any("running_mean" in name for name in moved) == (policy == "train")
    affine = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert bool(affine & moved) == (policy != "freeze")


def test_a_model_without_batch_norm_is_left_alone() -> None:
    model = tiny()
    hold_batch_norm(model, Recipe(batch_norm="freeze"), True)
    assert all(parameter.requires_grad for parameter in model.parameters())
