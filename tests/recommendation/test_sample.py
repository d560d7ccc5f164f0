"""Which images candidates are compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridvit.recommendation.sample import sample_of
from hybridvit.transfer.errors import DataError
from tests.recommendation.examples import CLASSES, striped


def test_every_image_is_held_out_once(tmp_path: Path) -> None:
    sample = sample_of(striped(tmp_path), 1_000)
    assert (len(sample.images), sample.total, sample.classes) == (36, 36, CLASSES)
    assert sample.how == "5 folds, each held out once"
    assert sorted(sample.held_out) == list(range(36))
    for fit, out in sample.parts:
        assert not set(fit) & set(out)
        assert len(fit) + len(out) == 36
        assert set(sample.images.labels[fit]) == set(sample.images.labels[out]) == {0, 1, 2}


def test_a_part_of_many_images_has_the_shares_of_their_classes(tmp_path: Path) -> None:
    folder = striped(tmp_path, 20)
    sample = sample_of(folder, 30)
    assert sample.images.counts(3).tolist() == [10, 10, 10]
    assert sample.total == 60
    assert sample_of(folder, 30).images.names == sample.images.names
    assert sample_of(folder, 2).images.counts(3).tolist() == [5, 5, 5], "a few of each class at least"


def test_validation_images_that_there_are_are_held_out(tmp_path: Path) -> None:
    striped(tmp_path, 12, "train")
    striped(tmp_path, 3, "val")
    striped(tmp_path, 3, "test")
    sample = sample_of(tmp_path, 1_000)
    assert sample.how == "the validation images"
    ((fit, out),) = sample.parts
    names = np.array(sample.images.names)
    assert {name.partition("/")[0] for name in names[fit]} == {"train"}
    assert {name.partition("/")[0] for name in names[out]} == {"val"}
    assert (len(fit), len(out), sample.total) == (36, 9, 45)
    ((fit, out),) = sample_of(tmp_path, 30).parts
    assert (len(fit), len(out)) == (21, 9)


def test_a_small_class_makes_fewer_folds(tmp_path: Path) -> None:
    folder = striped(tmp_path)
    for path in sorted((folder / "top").iterdir())[2:]:
        path.unlink()
    assert len(sample_of(folder, 1_000).parts) == 2


def test_unsuitable_data_is_refused(tmp_path: Path) -> None:
    folder = striped(tmp_path, 1)
    with pytest.raises(DataError, match="has 1 distinct image: too few"):
        sample_of(folder, 1_000)
    with pytest.raises(DataError, match="images must be at least 2, got 1"):
        sample_of(folder, 1)
    for name in CLASSES[1:]:
        (folder / name / "0.png").unlink()
        (folder / name).rmdir()
    with pytest.raises(DataError, match="has one class, 'bottom'"):
        sample_of(folder, 1_000)


def test_broken_files_are_refused_or_left_out(tmp_path: Path) -> None:
    folder = striped(tmp_path)
    (folder / "top" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        sample_of(folder, 1_000)
    sample = sample_of(folder, 1_000, on_bad="skip")
    assert len(sample.images) == 36
    assert any("broken.png" in note or "1 " in note for note in sample.notes)
