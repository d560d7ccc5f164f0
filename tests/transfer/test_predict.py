"""Predictions of files without end, of models with several labels an image, and where they are written."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import hybridvit as hv
from hybridvit.cli import app
from hybridvit.encoder import Encoder
from hybridvit.transfer.images import BadImage
from hybridvit.transfer.outputs import writer_for
from hybridvit.transfer.predict import Prediction, predict, predict_files
from tests.transfer.samples import draw, tiny


def several_labels() -> Encoder:
    """Its logits are 2, 1 and -1 whatever it sees."""
    model = tiny().eval()
    model.labels, model.multi_label = ("cat", "dog", "eel"), True
    head = next(module for module in model.head.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([2.0, 1.0, -1.0]))
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return hv.save_pretrained(several_labels(), tmp_path / "model")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(3):
        draw(tmp_path / "pictures" / f"{number}.png", seed=number)
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"no image")
    return tmp_path / "pictures"


def command(*arguments: object, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], input=given)


def test_several_labels_an_image(saved: Path, pictures: Path) -> None:
    picture = pictures / "0.png"
    found = predict(saved, picture)[0]
    assert [each.label for each in found] == ["cat", "dog"]
    assert found[0].probability == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=1e-5)
    assert [each.label for each in predict(saved, picture, threshold=0.2)[0]] == ["cat", "dog", "eel"]
    assert [each.label for each in predict(saved, picture, topk=1)[0]] == ["cat"]
    assert predict(saved, picture, threshold=0.99)[0] == []


def test_a_threshold_holds_for_a_single_label_too(pictures: Path) -> None:
    model = several_labels()
    model.multi_label = False
    assert len(predict(model, pictures / "0.png")[0]) == 3
    assert [each.label for each in predict(model, pictures / "0.png", threshold=0.3)[0]] == ["cat"]


def test_no_more_images_are_held_than_a_batch(pictures: Path) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield pictures / "0.png"

    results = predict_files(tiny().eval(), endless(), batch_size=4)
    for _ in range(9):
        assert isinstance(next(results)[1], list)
    assert taken == 12


def test_every_file_has_its_result_in_order(pictures: Path) -> None:
    given = [pictures / "1.png", pictures, pictures / "none.png", pictures / "1.png"]
    results: list[tuple[Path, Any]] = list(predict_files(tiny().eval(), given, batch_size=2))
    assert [path.name for path, _ in results] == [
        *("1.png", "0.png", "1.png", "2.png", "broken.jpg", "none.png", "1.png"),
    ]
    assert [isinstance(result, BadImage) for _, result in results] == [False] * 4 + [True] * 2 + [False]
    for one, other in zip(results[0][1], results[-1][1], strict=True):  # in batches of two images and of one
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-6)


def test_predictions_are_written_as_a_table(saved: Path, pictures: Path, tmp_path: Path) -> None:
    done = command(pictures, "--model", saved, "--out", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert done.stdout == f"3 images labelled, written: {tmp_path / 'out.csv'}\n"
    assert "1 files could not be read" in done.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["image"]).name, row["label"]) for row in rows] == [
        *((f"{number}.png", label) for number in range(3) for label in ("cat", "dog")),
        ("broken.jpg", ""),
    ]
    assert float(rows[0]["probability"]) == pytest.approx(0.8808, abs=1e-4)
    assert rows[-1]["error"].startswith("not an image")


def test_predictions_are_written_as_json_lines(saved: Path, pictures: Path, tmp_path: Path) -> None:
    done = command(pictures, "--model", saved, "--out", tmp_path / "out.jsonl", "--json", "--topk", "1")
    assert json.loads(done.stdout) == {"written": str(tmp_path / "out.jsonl"), "images": 3, "unreadable": 1}
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [[each["label"] for each in line["predictions"]] for line in lines[:3]] == [["cat"]] * 3
    assert set(lines[3]) == {"image", "error"}


def test_the_threshold_of_the_command(saved: Path, pictures: Path) -> None:
    shown = command(pictures / "0.png", "--model", saved, "--threshold", "0.8").stdout
    assert shown == f"{pictures / '0.png'}: cat 88.1%\n"
    assert "none of the labels" in command(pictures / "0.png", "--model", saved, "--threshold", "1").stdout


def test_names_come_from_standard_input(saved: Path, pictures: Path) -> None:
    names = b"\0".join(os.fsencode(pictures / f"{number}.png") for number in range(2))
    done = command("-", "--model", saved, "--json", given=names)
    assert done.exit_code == 0, done.output
    assert [Path(json.loads(line)["image"]).name for line in done.stdout.splitlines()] == ["0.png", "1.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_a_name_that_is_not_utf8_is_told_and_stops_nothing(saved: Path, pictures: Path, tmp_path: Path) -> None:
    os.rename(os.fsencode(pictures / "0.png"), os.fsencode(pictures) + b"/caf\xe9.png")
    done = command(pictures, "--model", saved, "--out", tmp_path / "out.jsonl")
    assert done.exit_code == 1
    assert "2 images labelled" in done.stdout
    assert "its name is not UTF-8; rename it" in done.stderr
    assert "its name is not UTF-8" in (tmp_path / "out.jsonl").read_text()


def test_an_empty_folder_is_told(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = command(tmp_path / "empty", "--model", saved)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert f"{tmp_path / 'empty'}: no image in this folder" in done.stderr


def test_another_ending_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    done = command(tmp_path, "--model", tmp_path / "none", "--out", tmp_path / "out.xlsx")
    assert done.exit_code == 1
    assert "predictions are written as .csv or .jsonl" in done.stderr


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_is_cut_short_leaves_the_earlier_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    path.write_text("earlier")

    def results() -> Iterator[tuple[Path, list[Prediction]]]:
        yield Path("one.png"), [Prediction("cat", 0.5)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer_for(path)(results())
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_quotes_what_it_must(tmp_path: Path) -> None:
    writer_for(tmp_path / "out.csv")([(Path('a,"b".png'), [Prediction("cat, or\ndog", 0.5)])])
    rows = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert rows[1] == ['a,"b".png', "cat, or\ndog", "0.5", ""]
