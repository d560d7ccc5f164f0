"""Cross-validation folds."""

from pathlib import Path

import numpy as np
import pytest

from hybridvit.transfer.data import Data, load_data
from hybridvit.transfer.data.split import folds
from hybridvit.transfer.errors import DataError
from tests.transfer.samples import draw, folder_of, write_idx


def test_every_image_is_held_out_once_and_copies_together(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {"a": 7, "b": 11})
    draw(root / "a" / "copy.png", seed=0)  # of a/0.png
    parts = [load_data(root, fold=(number, 3)) for number in (1, 2, 3)]
    held_out = [name for part in parts for name in part.val.names]
    assert sorted(held_out) == sorted({*parts[0].train.names, *parts[0].val.names})
    assert len(held_out) == 19
    for part in parts:
        assert not set(part.train.digests) & set(part.val.digests)
        assert (np.bincount(part.val.labels) >= (2, 3)).all()
    assert len({part.fingerprint() for part in parts}) == 3


def test_folds_depend_on_content_and_seed_alone(rows: Data) -> None:
    def names(seed: int) -> list[tuple[str, ...]]:
        return [val.names for _, val in folds(rows.train, rows.classes, 4, seed)]

    assert names(0) == names(0) != names(1)


def test_a_test_set_stays_out(tmp_path: Path) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 30, 't10k': 6})}"
    part = load_data(data, fold=(2, 5))
    assert (len(part.train), len(part.val)) == (24, 6)
    assert part.test is not None
    assert len(part.test) == 6


def test_of_a_split_folder_the_training_images_are_divided(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("test", 2)):
        folder_of(tmp_path / "data" / split, {"a": count, "b": count}, seed=len(split))
    part = load_data(tmp_path / "data", fold=(1, 3))
    assert (len(part.train), len(part.val)) == (8, 4)
    assert part.test is not None
    assert len(part.test) == 4


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {"a": 4, "b": 4})
    (root / "a" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        load_data(root, fold=(1, 2))
    part = load_data(root, fold=(1, 2), on_bad="skip")
    assert len(part.train) + len(part.val) == 8
    assert any("broken.png" in note for note in part.notes)


@pytest.mark.parametrize("fold", [(0, 3), (4, 3), (1, 1)])
def test_folds_that_are_none(tmp_path: Path, fold: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"fold must be \(NUMBER, COUNT\)"):
        load_data(tmp_path, fold=fold)


def test_too_few_images(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {"a": 2, "b": 9})
    with pytest.raises(DataError, match="class 'a' has 2 distinct images, too few for 3 folds"):
        load_data(root, fold=(1, 3))
