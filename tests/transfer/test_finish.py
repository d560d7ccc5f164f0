"""A last phase at a larger size."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import hybridvit as hv
from hybridvit.transfer.directory import remove_run
from hybridvit.transfer.finish import ClassifierAndNorms, finishing_recipe
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.run import finetune
from hybridvit.transfer.trainer import Trainer
from tests.transfer.samples import FAST, tiny, write_idx

MODEL = "cct_2_3x2_32"
RECIPE = FAST.replace(epochs=2, channels=1, image_size=16, finish_size=24, finish_epochs=2, ema_decay=0.8)


def test_the_classifier_and_the_norms_are_trained() -> None:
    model = tiny()
    ClassifierAndNorms().prepare(model, Recipe())
    norms = {
        f"{name}.{each}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for each in ("weight", "bias")
    }
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == norms | {"head.weight", "head.bias"}


def test_its_recipe_has_no_random_crops() -> None:
    recipe = finishing_recipe(Recipe(finish_size=288, finish_epochs=3, mixup=0.2, augment="rand", lr=1e-3, freeze=4))
    assert (recipe.epochs, recipe.image_size, recipe.lr, recipe.augment) == (3, 288, 5e-4, "flip")
    assert (recipe.mixup, recipe.freeze, recipe.finish_epochs) == (0.0, 0, 0)
    assert finishing_recipe(Recipe(finish_size=288, finish_epochs=3, augment="none")).augment == "none"


def test_the_saved_model_expects_the_larger_size_and_a_killed_run_resumes(tmp_path: Path) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    run = tmp_path / "run"
    options: dict[str, Any] = {"pretrained": False, "progress": False}
    result = finetune(MODEL, data, run, recipe=RECIPE, **options)
    model = hv.create_model(f"local-dir:{run}")
    assert model.preprocess is not None
    assert model.preprocess.input_size == model.spec.img_size == (24, 24)
    assert [line.epoch for line in result.history] == [1, 2, 3, 4]
    assert result.best_epoch in (3, 4)
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 4
    start = hv.create_model(f"local-dir:{run / 'finish' / 'start'}")
    assert start.spec.img_size == (16, 16)
    frozen = "stages.0.blocks.0.branches.0.mixer.qkv.weight"
    weights, before = model.state_dict(), start.state_dict()
    assert frozen in weights
    assert torch.equal(weights[frozen], before[frozen])
    assert not torch.equal(weights["head.weight"], before["head.weight"])

    killed = tmp_path / "killed"
    shutil.copytree(run, killed)
    (killed / "metrics.json").unlink()
    shutil.rmtree(killed / "finish" / "checkpoints")  # killed between the first save and its checkpoint
    assert finetune(MODEL, data, killed, resume=True, **options).accuracy == result.accuracy
    for key, value in load_file(killed / "model.safetensors").items():
        assert torch.equal(value, load_file(run / "model.safetensors")[key]), key

    remove_run(killed)
    assert not (killed / "finish").exists()


@pytest.mark.slow
def test_ctrl_c_in_it_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    options: dict[str, Any] = {"pretrained": False, "progress": False}
    straight = finetune(MODEL, data, tmp_path / "straight", recipe=RECIPE, **options)
    finish_epoch = Trainer._finish_epoch

    def stopping(self: Trainer) -> None:
        if self.recipe.image_size == 24:
            self.stop_requested = True
        finish_epoch(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_finish_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            finetune(MODEL, data, tmp_path / "run", recipe=RECIPE, **options)
    resumed = finetune(MODEL, data, tmp_path / "run", resume=True, **options)
    assert resumed.accuracy == straight.accuracy
    assert [line.train_loss for line in resumed.history] == [line.train_loss for line in straight.history]
