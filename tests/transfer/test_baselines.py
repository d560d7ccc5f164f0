"""What a run has to beat."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hybridvit.transfer import baselines
from hybridvit.transfer.baselines import measure_baselines, verdict
from hybridvit.transfer.data import Data
from hybridvit.transfer.run import finetune
from tests.transfer.samples import FAST, trainer_of, with_several_labels, write_idx


def test_the_commonest_class_and_neighbours(rows: Data, tmp_path: Path) -> None:
    labels = rows.train.labels
    keep = np.concatenate([np.flatnonzero(labels == 2), np.flatnonzero(labels != 2)[:20]])
    unequal = dataclasses.replace(rows, train=rows.train.subset(np.sort(keep)))
    found = measure_baselines(trainer_of(unequal, tmp_path))
    assert found["majority"] == pytest.approx((rows.val.labels == 2).mean())
    assert found["knn"] > 0.6  # bright rows are near each other for any model
    several = measure_baselines(trainer_of(with_several_labels(rows), tmp_path))
    assert 0 < several["majority"] < several["knn"] <= 1


def test_of_large_sets_a_part_is_taken(rows: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_MOST_IMAGES", 10)
    run = trainer_of(rows, tmp_path)
    sizes: list[int] = []
    features = run.features
    monkeypatch.setattr(run, "features", lambda images, what: sizes.append(len(images)) or features(images, what))
    first = measure_baselines(run)
    assert sizes == [10, 10]
    assert measure_baselines(run) == first


def test_a_run_that_is_not_better_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(0.9, {"majority": 0.5, "knn": 0.8}) is None
    assert "not better than nearest neighbours" in (verdict(0.8, {"majority": 0.5, "knn": 0.8}) or "")
    assert verdict(0.9, {}) is None
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    recipe = FAST.replace(epochs=1, lr=0.0, channels=1, image_size=16)
    result = finetune("cct_2_3x2_32", data, tmp_path / "run", recipe=recipe, pretrained=False)
    shown = " ".join(capsys.readouterr().err.split())
    assert "before training, on the validation images: commonest class 0.3333, nearest neighbours" in shown
    last = shown.rpartition("warning: ")[2]
    assert "is not better than" in last
    assert last.endswith("or look for wrong labels in the data")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["baselines"] == result.baselines
