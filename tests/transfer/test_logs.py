"""Logs of a run: in three forms, whole after a resume."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hybridvit.transfer.checkpoint import CheckpointError
from hybridvit.transfer.logs import Logs
from hybridvit.transfer.records import Epoch


def history(epochs: int) -> list[Epoch]:
    return [
        Epoch(
            epoch=number,
            step=10 * number,
            lr=0.1,
            train_loss=1 / number,
            train_accuracy=0.5,
            val_loss=2 / number,
            val_accuracy=0.25,
            images_per_second=100.0,
            seconds=float(number),
            data_wait=0.04,
        )
        for number in range(1, epochs + 1)
    ]


def test_tables_have_a_line_an_epoch(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    for epochs in (1, 2):
        logs.write(history(epochs))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["data_wait"]) for row in rows] == [("1", "0.04"), ("2", "0.04")]
    assert [json.loads(line)["train_loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1.0, 0.5]
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_shows_each_epoch_once_also_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Logs(tmp_path, tensorboard=True)
    for epochs in (1, 2):
        first.write(history(epochs))
    Logs(tmp_path, tensorboard=True).write(history(3))
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert file.name == "events.out.tfevents"  # no name of a computer
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train_loss", "val_accuracy", "data_wait"} <= set(events.Tags()["scalars"])
    scalars = events.Scalars("train_loss")
    assert [(each.step, each.value) for each in scalars] == [(10, 1.0), (20, 0.5), (30, pytest.approx(1 / 3))]
    assert scalars[2].wall_time - scalars[1].wall_time == pytest.approx(1.0, abs=0.1)


def test_a_log_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logs = Logs(tmp_path, tensorboard=True)
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot write .*tfevents: .*Resume once that place can be written"):
        logs.write(history(1))
