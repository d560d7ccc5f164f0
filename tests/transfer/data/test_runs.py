"""Runs on data that is no folder: what they leave, and that the same split can be had again."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridvit.cli import app
from hybridvit.transfer.data import folder_of
from hybridvit.transfer.directory import remove_run
from hybridvit.transfer.errors import RunDirectoryError
from hybridvit.transfer.evaluation import evaluate
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.results import FinetuneResult
from hybridvit.transfer.run import finetune
from tests.transfer.data.test_table import lines, table
from tests.transfer.data.test_wds import two_shards
from tests.transfer.samples import folder_of as class_folders

FAST = Recipe(epochs=1, batch_size=4, augment="none", channels=1, image_size=16)


def run(data: str | Path, out: Path, **options: Any) -> FinetuneResult:
    fixed = {"recipe": FAST, "pretrained": False, "progress": False, "workers": 0}
    return finetune("cct_2_3x2_32", data, out, **(fixed | options))


def command(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """A table beside a folder that its paths are relative to."""
    path = table(tmp_path / "pictures", lines(["cat", "dog"] * 6), images=12)
    return path.rename(tmp_path / "labels.csv")


def test_a_run_leaves_its_split_and_what_was_found(apart: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(apart, first, image_root=tmp_path / "pictures")
    report = json.loads((first / "data.json").read_text())
    assert report["counts"] == {"train": [5, 5], "val": [1, 1]}
    assert str(tmp_path) not in (first / "data.json").read_text() + (first / "split.csv").read_text()
    other = (first / "split.csv").read_text().replace("val,cat", "test,cat").replace("train,cat", "val,cat", 1)
    (tmp_path / "split.csv").write_text(other)
    run(apart, second, image_root=tmp_path / "pictures", split=tmp_path / "split.csv")
    assert sorted((second / "split.csv").read_text().splitlines()) == sorted(other.splitlines())
    assert json.loads((second / "metrics.json").read_text())["split"] == "test"


def test_overwriting_a_run_removes_its_report_too(apart: Path, tmp_path: Path) -> None:
    run(apart, tmp_path / "run", image_root=tmp_path / "pictures")
    (tmp_path / "run" / "mine.txt").write_text("x")
    remove_run(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_the_command_line_takes_tables(apart: Path, tmp_path: Path) -> None:
    out, root = tmp_path / "run", tmp_path / "pictures"
    fixed = ["--no-pretrained", "--epochs", "1", "--set", "image_size=16", "--set", "augment=none", "--workers", "0"]
    data = ["--data", apart, "--image-root", root]
    shown = command("finetune", "--model", "cct_2_3x2_32", *data, "--out", out, *fixed)
    assert "one label an image from column 'label'" in shown
    again = tmp_path / "again"
    command("finetune", "--model", "cct_2_3x2_32", *data, "--out", again, *fixed, "--split", out / "split.csv")
    assert (again / "split.csv").read_text() == (out / "split.csv").read_text()
    assert json.loads(command("evaluate", "--model", out, *data, "--json"))["count"] == 12


def test_shards_train_and_score(tmp_path: Path) -> None:
    pattern = two_shards(tmp_path / "shards")
    result = run(pattern, tmp_path / "shards" / "run")
    assert evaluate(tmp_path / "shards" / "run", pattern, workers=0).count == 20
    assert result.best_epoch == 1


def test_a_run_is_not_put_where_it_would_become_data(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "images", {"cat": 2, "dog": 2})
    for data in (folder, f"hf:{folder}", f"idx:{folder}"):
        with pytest.raises(RunDirectoryError, match="is in the data folder"):
            run(data, folder / "run")
    assert folder_of(tmp_path / "labels.csv") is None
    assert folder_of(f"wds:{tmp_path}") is None
    assert folder_of("hf:org/name") is None
