"""Methods: what each trains, and that what it saves is a plain model with the same outputs."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.transfer.data import Data
from hybridvit.transfer.errors import RecipeError
from hybridvit.transfer.methods import METHODS
from hybridvit.transfer.methods.knn import neighbours_of, votes
from hybridvit.transfer.methods.lora import linear_layers
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.run import finetune
from tests.representatives import freshly_built, one_of_each_family
from tests.transfer.samples import FAST, tiny, trainer_of, with_several_labels, write_idx

ADAPTED = Recipe(lora_rank=2, lora_alpha=4.0)


def moved_weights(model: Encoder) -> None:
    """Trained weights as they might become."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)


def assert_merges(model: Encoder, method: str) -> None:
    plain_keys = set(model.state_dict())
    images = torch.randn(2, model.spec.in_chans, *model.spec.img_size, dtype=next(model.parameters()).dtype)
    before = model.eval()(images).detach()
    METHODS[method].prepare(model, ADAPTED)
    model.eval()
    torch.testing.assert_close(model(images), before, atol=1e-5, rtol=1e-5)  # it starts where the model was
    moved_weights(model)
    expected = model(images).detach()
    assert (expected - before).abs().max() > 1e-3 * before.std()
    keys = set(model.state_dict())
    merged = METHODS[method].merged(model)
    assert set(merged.state_dict()) == plain_keys
    assert set(model.state_dict()) == keys
    torch.testing.assert_close(merged.eval()(images), expected, atol=1e-5, rtol=1e-4)
    assert {type(module) for module in merged.modules()} == {type(module) for module in merged.spec.build().modules()}


@pytest.mark.parametrize("method", ["lora", "ssf"])
def test_a_merged_model_is_plain_and_answers_the_same(method: str) -> None:
    assert_merges(tiny(), method)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "ssf"])
@pytest.mark.parametrize("name", one_of_each_family())
def test_no_family_passes_by_what_is_trained(name: str, method: str) -> None:
    model = freshly_built(name).double()  # rounding grows in the deeper of them
    if method == "lora" and not linear_layers(model, ADAPTED.lora_rank):
        pytest.skip("no linear layers")
    assert_merges(model, method)


@pytest.mark.parametrize("method", ["lora", "ssf"])
def test_a_run_learns_and_resumes_to_the_same_weights(rows: Data, tmp_path: Path, method: str) -> None:
    recipe = FAST.replace(method=method, epochs=4, lr=5e-3, lora_rank=4, ema_decay=0.9)
    kept: list[Encoder] = []
    straight = trainer_of(rows, tmp_path / "straight", recipe, keep=lambda best, position: kept.append(best))
    straight.fit()
    assert straight.history[-1].train_loss < straight.history[0].train_loss
    assert set(kept[-1].state_dict()) == set(tiny().state_dict())

    halved = trainer_of(rows, tmp_path / "halved", recipe, checkpoint_seconds=0.0)
    steps = 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 2 * halved.batches.steps:
            halved.stop_requested = True

    halved.model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        halved.fit()
    resumed = trainer_of(rows, tmp_path / "halved", recipe)
    resumed.fit(resume=True)
    for (name, value), expected in zip(
        resumed.model.state_dict().items(), straight.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), name


def test_lora_trains_updates_and_the_classifier(rows: Data, tmp_path: Path) -> None:
    run = trainer_of(rows, tmp_path, FAST.replace(method="lora", lora_rank=4, lora_alpha=8.0, epochs=1))
    trained = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"head.weight", "head.bias"}
    assert {p.shape[0] for n, p in run.model.named_parameters() if "lora_A" in n} == {4}
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.fit()
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved <= trained
    layer = next(module for module in run.model.modules() if hasattr(module, "scaling"))
    assert layer.scaling == {"default": 2.0}  # pyright: ignore[reportAttributeAccessIssue]


def test_a_missing_library_is_told_before_the_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from hybridvit.cli import app

    monkeypatch.setitem(sys.modules, "peft", None)
    arguments = ("finetune", "--model", "cct_2_3x2_32", "--no-pretrained", "--data", "nowhere", "--method", "lora")
    found = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")])
    assert found.exit_code == 1
    assert "this needs peft: pip install 'hybridvit[lora]'" in found.output


def test_lora_leaves_frozen_blocks_alone_and_says_where_it_cannot_help() -> None:
    model = tiny()
    names = linear_layers(model, 4)
    assert all(".blocks." in name for name in names)
    METHODS["lora"].prepare(model, ADAPTED.replace(freeze=2))
    adapted = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapted
    assert adapted < set(names)
    with pytest.raises(RecipeError, match="no linear layer for which lora_rank 1024 saves anything"):
        METHODS["lora"].prepare(tiny(), ADAPTED.replace(lora_rank=1024))


def test_ssf_trains_factors_norms_biases_and_the_classifier() -> None:
    model = tiny()
    METHODS["ssf"].prepare(model, ADAPTED)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad and not name.startswith("head.")]
    assert {p.numel() == p.shape[0] for _, p in trained} == {True}
    assert any(name.endswith("0.factor") for name, _ in trained)
    share = sum(p.numel() for _, p in trained) / sum(p.numel() for p in model.parameters())
    assert share < 0.05


def test_a_saved_model_loads_without_peft(tmp_path: Path) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    recipe = FAST.replace(method="lora", lora_rank=2, epochs=1, channels=1, image_size=16)
    finetune("cct_2_3x2_32", data, tmp_path / "run", recipe=recipe, pretrained=False, progress=False)
    script = "import sys; sys.modules['peft'] = None; import hybridvit as hv; hv.create_model(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, f"local-dir:{tmp_path / 'run'}"], check=True)


@pytest.mark.parametrize("several", [False, True])
def test_a_probe_is_a_saved_model_whose_classifier_alone_is_new(rows: Data, tmp_path: Path, several: bool) -> None:
    data = with_several_labels(rows) if several else rows
    model, kept = tiny(), []
    before = copy.deepcopy(model.state_dict())
    run = trainer_of(
        data, tmp_path, FAST.replace(method="probe", epochs=30), model, keep=lambda best, position: kept.append(best)
    )
    run.method.fit(run, resume=False)
    moved = {name for name, value in kept[-1].state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert run.position.best_accuracy == pytest.approx(run.position.probe_accuracy, abs=1e-6)
    assert run.position.best_accuracy > 0.6
    assert run.history == []


def test_probe_and_neighbours_through_finetune(tmp_path: Path) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    recipe = FAST.replace(channels=1, image_size=16, probe_epochs=10)
    for method in ("probe", "knn"):
        out = tmp_path / method
        options: dict[str, Any] = {"recipe": recipe.replace(method=method), "pretrained": False, "progress": False}
        result = finetune("cct_2_3x2_32", data, out, **options)
        assert 0 < result.accuracy <= 1
        assert (out / "model.safetensors").is_file() == (method == "probe")
        assert (out / "metrics.json").is_file()
        assert (
            finetune("cct_2_3x2_32", data, out, **(options | dict[str, Any](resume=True))).accuracy == result.accuracy
        )
    assert hv.evaluate(tmp_path / "probe", data).figure > 0.3


def test_votes_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    targets = torch.tensor([[1, 0], [0, 1], [0, 1]])
    shares = votes(torch.tensor([[2.0, 0.0]]), features, targets, k=2)
    nearer = torch.tensor(1 / 0.07), torch.tensor(1 / (0.07 * 1.01**0.5))
    assert shares[0, 0].item() == pytest.approx((1 / (1 + (nearer[1] - nearer[0]).exp())).item(), abs=1e-4)
    assert votes(torch.tensor([[2.0, 0.0]]), features, targets, k=1).tolist() == [[1.0, 0.0]]
    assert [neighbours_of(count) for count in (1, 25, 10_000)] == [1, 5, 20]


def test_every_method_of_the_recipe_exists() -> None:
    from hybridvit.transfer.recipe.limits import CHOICES

    assert tuple(METHODS) == CHOICES["method"]
    assert isinstance(METHODS["lora"].merged(tiny()), nn.Module)
