"""Several runs in one go, and the command line around them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridvit.cli import app
from hybridvit.transfer.data import Data
from hybridvit.transfer.directory import default_directory
from hybridvit.transfer.errors import RecipeError
from hybridvit.transfer.search import finetune_folds, finetune_rates
from tests.transfer.samples import FAST, trainer_of, write_idx

MODEL = "cct_2_3x2_32"
RECIPE = FAST.replace(epochs=1, channels=1, image_size=16)


@pytest.fixture
def idx(tmp_path: Path) -> str:
    return f"idx:{write_idx(tmp_path / 'digits', {'train': 60, 't10k': 15})}"


def test_the_best_of_several_rates(idx: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"recipe": RECIPE.replace(epochs=2), "pretrained": False, "progress": False}
    found = finetune_rates(MODEL, idx, tmp_path / "search", [1e-7, 3e-3], **options)
    assert found.best == "lr-0.003"
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == ["lr-0.003", "lr-1e-07", "search.json"]
    table = json.loads((tmp_path / "search" / "search.json").read_text())
    assert table["best"] == "lr-0.003"
    assert table["runs"]["lr-0.003"]["val_accuracy"] == found.runs["lr-0.003"].val_accuracy
    again = finetune_rates(MODEL, idx, tmp_path / "search", [1e-7, 3e-3], resume=True, **options)
    assert [each.history for each in again.runs.values()] == [each.history for each in found.runs.values()]
    with pytest.raises(RecipeError, match=r"each rate once, got 0\.1, 0\.1"):
        finetune_rates(MODEL, idx, tmp_path / "twice", [0.1, 0.1])


def test_folds_have_a_mean_and_a_spread(idx: str, tmp_path: Path) -> None:
    found = finetune_folds(MODEL, idx, tmp_path / "cv", 3, recipe=RECIPE, pretrained=False, progress=False)
    accuracies = [found.runs[f"fold-{number}"].accuracy for number in (1, 2, 3)]
    assert found.mean == pytest.approx(sum(accuracies) / 3)
    assert found.spread == pytest.approx((sum((each - found.mean) ** 2 for each in accuracies) / 2) ** 0.5)
    assert found.best is None
    splits = [(tmp_path / "cv" / f"fold-{number}" / "split.csv").read_text() for number in (1, 2, 3)]
    held_out = [line for split in splits for line in split.splitlines() if line.startswith("val,")]
    assert len(held_out) == len(set(held_out)) == 60


def test_patience_ends_a_run(rows: Data, tmp_path: Path) -> None:
    run = trainer_of(rows, tmp_path, FAST.replace(epochs=9, lr=0.0, patience=2))
    run.fit()
    assert [line.epoch for line in run.history] == [1, 2, 3]
    resumed = trainer_of(rows, tmp_path, FAST.replace(epochs=9, lr=0.0, patience=2))
    resumed.fit(resume=True)
    assert len(resumed.history) == 3


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_names_a_directory_of_its_own(idx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ("--epochs", "1", "--set", "image_size=16", "--set", "channels=1", "--json", "--no-pretrained")
    first = command("finetune", "--data", idx, "--model", MODEL, "--method", "probe", *few)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["directory"] == f"runs/digits-{MODEL}"
    second = command("finetune", "--data", idx, "--model", MODEL, "--method", "knn", *few)
    assert json.loads(second.stdout)["directory"] == f"runs/digits-{MODEL}-2"
    assert default_directory(idx, MODEL, resume=True) == Path(f"runs/digits-{MODEL}-2")
    assert default_directory("hf:me/pets and more", "hf-hub:me/net", resume=True) == Path("runs/pets_and_more-net")


def test_options_reach_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridvit.cli.training import DEFAULT_MODEL
    from hybridvit.weights.entries import find_entry

    calls: list[tuple[Any, ...]] = []

    def noted(*given: Any, **options: Any) -> SimpleNamespace:
        calls.append((*given, options))
        return SimpleNamespace(to_dict=dict)

    monkeypatch.setattr("hybridvit.transfer.search.finetune", noted)
    options = ("--find-lr", "--patience", "3", "--teacher", "master", "--method", "lora", "--lr", "0.1")
    for arguments in (options, ("--no-pretrained",)):
        assert command("finetune", "--data", "my_images", *arguments).exit_code == 0
    (model, data, out, told), (scratch, _, _, _) = calls
    assert (model, data, out) == (DEFAULT_MODEL, "my_images", Path(f"runs/my_images-{DEFAULT_MODEL}"))
    reported = find_entry(DEFAULT_MODEL).reported
    assert reported is not None
    page = (Path(__file__).parents[2] / "docs" / "finetune.md").read_text()
    assert f"{reported['top1']:.1f} % top-1 on ImageNet as timm reports" in page
    usage = " ".join(command("finetune", "--help").stdout.replace("│", " ").split())
    assert f"{reported['top1']:.1f} % on ImageNet as timm reports" in usage
    assert scratch == DEFAULT_MODEL.partition(".")[0]
    assert (told["find_lr"], told["teacher"]) == (True, "master")
    assert told["overrides"] == {"method": "lora", "patience": 3, "lr": 0.1}


def test_the_command_searches(idx: str, tmp_path: Path) -> None:
    arguments = ("finetune", "--data", idx, "--model", MODEL, "--no-pretrained", "--set", "image_size=16")
    rates = ("--epochs", "1", "--lr", "1e-3", "--lr", "1e-2")
    several = command(*arguments, "--set", "channels=1", *rates, "--out", tmp_path / "several", "--json")
    assert several.exit_code == 0, several.output
    assert set(json.loads(several.stdout)["runs"]) == {"lr-0.001", "lr-0.01"}
    assert "best on the validation images: lr-" in several.output
    both = command(*arguments, *rates, "--folds", "3", "--out", tmp_path / "both")
    assert both.exit_code == 1
    assert "several rates and folds exclude each other" in both.output
