"""Whether an image may have any number of labels: saved with the weights, and kept for as long as it is true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hybridvit as hv
from hybridvit import adapt
from hybridvit.weights.errors import WeightsError
from tests.weights.examples import tiny


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = tiny()
    model.multi_label = True
    return hv.save_pretrained(model, tmp_path / "saved")


def test_it_is_saved_and_loaded(saved: Path, tmp_path: Path) -> None:
    assert json.loads((saved / "config.json").read_text())["task"] == "multi-label"
    model = hv.create_model(f"local-dir:{saved}")
    assert model.multi_label
    again = hv.save_pretrained(model, tmp_path / "again")
    assert (again / "config.json").read_text() == (saved / "config.json").read_text()


def test_a_single_label_is_no_task(tmp_path: Path) -> None:
    saved = hv.save_pretrained(tiny(), tmp_path / "saved")
    assert "task" not in json.loads((saved / "config.json").read_text())
    assert not hv.create_model(f"local-dir:{saved}").multi_label


@pytest.mark.parametrize("task", ["detection", 3, ["multi-label"]])
def test_another_task_is_refused(saved: Path, task: object) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"task": task}))
    with pytest.raises(WeightsError, match=r"has the task .* which knows 'multi-label' or none; pip install --upgrade"):
        hv.create_model(f"local-dir:{saved}")


def test_it_stays_while_the_classes_do(saved: Path) -> None:
    model = hv.create_model(f"local-dir:{saved}")
    assert adapt.with_in_chans(model, 1).multi_label
    assert adapt.with_img_size(model, 48).multi_label
    assert hv.optimize(model).multi_label
    assert not adapt.with_num_classes(model, 3).multi_label
    assert not hv.create_model(f"local-dir:{saved}", num_classes=3).multi_label
