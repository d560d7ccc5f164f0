"""The study of transfer to drawings: which images it takes, that it goes on where it stopped, and its table."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest

from benchmarks import transfer_study
from benchmarks.transfer_study import FRESH, TASKS, WAYS, Task, Way, measure, page_table, read, table
from hybridvit.transfer.recipe import load_recipe
from hybridvit.zoo_path import zoo_path

TINY = {"epochs": 1, "probe_epochs": 2, "batch_size": 4, "image_size": 32}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six drawings of each of two classes to learn from, and two sets to test on."""
    for place in sorted((zoo_path() / "samples" / "emoji" / "train").iterdir())[:2]:
        for number, file in enumerate(sorted(place.iterdir())[:10]):
            folder = tmp_path / "data" / ("train" if number < 6 else f"test{number % 2}") / place.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file.name)
    return tmp_path / "data"


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    task = Task("train", {"one": "test0", "other": "test1"}, 5, TINY)
    monkeypatch.setitem(TASKS, "tiny", task)
    monkeypatch.setitem(WAYS, "fresh", Way("cct_2_3x2_32", pretrained=False, changes=FRESH))
    monkeypatch.setitem(WAYS, "votes", Way("cct_2_3x2_32", pretrained=False, changes={**FRESH, "method": "knn"}))
    return task


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_seed_draws_images_and_more_images_hold_the_fewer(data: Path, task: Task, tmp_path: Path) -> None:
    few = rows(table(dataclasses.replace(task, images_a_class=2), data, 0, tmp_path / "few.csv"))
    more = rows(table(task, data, 0, tmp_path / "more.csv"))
    assert len(few) == 2 * 2
    assert len(more) == 2 * 5
    assert {row["path"] for row in few} < {row["path"] for row in more}
    other = rows(table(task, data, 1, tmp_path / "other.csv"))
    assert {row["path"] for row in other} != {row["path"] for row in more}
    tested = rows(table(task, data, 0, tmp_path / "tested.csv", "other"))[len(more) :]
    assert {row["split"] for row in tested} == {"test"}
    assert {Path(row["path"]).parent.parent.name for row in tested} == {"test1"}


@pytest.mark.parametrize("way", ["fresh", "votes"])
def test_a_run_is_tested_on_every_set_and_not_repeated(
    data: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    run = measure("tiny", way, 0, data, tmp_path / "work")
    assert run.accuracy.keys() == {"one", "other"}
    assert run.train_images == 2 * 4  # one of each class is held out
    assert run.recipe["image_size"] == 32
    assert run.recipe["augment"] == load_recipe("drawings").augment
    again = measure("tiny", way, 0, data, tmp_path / "work")
    assert again.seconds == run.seconds
    assert again.accuracy == run.accuracy


def test_goes_on_where_it_stopped(
    data: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.jsonl"
    command = ["transfer_study", "tiny", "--ways", "votes", "--data", str(data), "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [*command, "--out", str(out), "--seeds", "0"])
    transfer_study.main()
    assert [run.seed for run in read(out)] == [0]
    monkeypatch.setattr("sys.argv", [*command, "--out", str(out), "--seeds", "0", "1"])
    transfer_study.main()
    assert [run.seed for run in read(out)] == [0, 1]
    assert "seed 0" in capsys.readouterr().out.splitlines()[0]
    assert page_table(read(out)).count("| votes |") == 1


def test_the_table_has_means_and_deviations(data: Path, task: Task, tmp_path: Path) -> None:
    run = measure("tiny", "votes", 0, data, tmp_path / "work")
    runs = [
        dataclasses.replace(run, seed=seed, accuracy={"one": value, "other": 0.5}, seconds=60.0)
        for seed, value in enumerate((0.6, 0.7, 0.8))
    ]
    lines = page_table(runs).splitlines()
    assert "| tiny | images | one | other | seeds | minutes |" in lines
    assert "| votes | 8 | 0.700 ± 0.100 | 0.500 ± 0.000 | 3 | 1.0 |" in lines


def test_every_change_is_to_a_field_of_the_recipe() -> None:
    recipe = load_recipe("drawings")
    for task in TASKS.values():
        for way in WAYS.values():
            recipe.replace(**{**task.changes, **way.changes})
