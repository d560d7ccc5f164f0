"""Class folders and IDX files: what is read, how it is split, and what is refused with which words."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from hybridvit.transfer.data import load_data, load_split
from hybridvit.transfer.errors import DataError
from tests.transfer.samples import draw, folder_of, write_idx


def test_a_plain_folder_is_split_by_class(tmp_path: Path) -> None:
    data = load_data(folder_of(tmp_path, {"cat": 20, "dog": 10}), val_fraction=0.2)
    assert data.classes == ("cat", "dog")
    assert np.bincount(data.val.labels).tolist() == [4, 2]
    assert np.bincount(data.train.labels).tolist() == [16, 8]
    assert not set(data.train.names) & set(data.val.names)
    assert data.train.image(0, channels=1).mode == "L"


def test_the_split_depends_on_content_and_seed_only(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "a", {"cat": 20, "dog": 20})
    second = tmp_path / "b"
    for number, path in enumerate(sorted(first.glob("*/*.png"))):
        target = second / path.parent.name / f"renamed-{99 - number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    held_out = set(load_data(first).val.digests)
    assert set(load_data(second).val.digests) == held_out
    assert set(load_data(first, seed=1).val.digests) != held_out


def test_copies_stay_on_one_side_and_are_reported(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 10, "dog": 10})
    for name in ("cat", "dog"):
        for i in range(10):
            shutil.copy(tmp_path / name / f"{i}.png", tmp_path / name / f"copy-{i}.png")
    data = load_data(tmp_path)
    assert len(data.train) + len(data.val) == 40
    assert not set(data.train.digests) & set(data.val.digests)
    assert "20 of 40 images" in data.notes[0]


def test_one_image_in_two_classes_is_reported(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 5, "dog": 5})
    shutil.copy(tmp_path / "cat" / "0.png", tmp_path / "dog" / "same.png")
    assert any("more than one class" in note and "'cat', 'dog'" in note for note in load_data(tmp_path).notes)


def test_given_folders_are_used_as_they_are(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "valid", "test")):
        folder_of(tmp_path / split, {"cat": 3, "dog": 2}, seed=100 * seed)
    data = load_data(tmp_path)
    assert data.test is not None
    assert [len(part) for part in (data.train, data.val, data.test)] == [5, 5, 5]
    assert data.val.names[0] == "valid/cat/0.png"
    assert load_split(tmp_path)[1].names[0] == "test/cat/0.png"
    assert load_split(tmp_path, "val")[1].names[0] == "valid/cat/0.png"


def test_without_val_it_is_taken_from_train(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        folder_of(tmp_path / split, {"cat": 10, "dog": 10}, seed=100 * seed)
    data = load_data(tmp_path)
    assert {name.split("/")[0] for name in data.val.names} == {"train"}
    assert len(data.val) == 4


def test_images_shared_by_train_and_val_are_reported(tmp_path: Path) -> None:
    folder_of(tmp_path / "train", {"cat": 3, "dog": 3})
    folder_of(tmp_path / "val", {"cat": 2, "dog": 2})
    assert "4 images of val/ are also in train/" in load_data(tmp_path).notes[0]


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 4, "dog": 4})
    draw(tmp_path / "cat" / "indoor" / "sofa.png", seed=77)
    (tmp_path / "__MACOSX" / "x").mkdir(parents=True)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert "cat/indoor/sofa.png" in (*data.train.names, *data.val.names)


def test_bad_files_are_all_listed_or_skipped(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 5, "dog": 5})
    (tmp_path / "cat" / "report.jpg").write_bytes(b"%PDF-1.4 ...")
    whole = (tmp_path / "dog" / "1.png").read_bytes()
    (tmp_path / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    shutil.copy(tmp_path / "dog" / "1.png", tmp_path / "dog" / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(
        DataError, match=r"(?s)4 of 14 files.*report\.jpg: not an image.*caf\?\.png: its name is not.*--on-bad skip"
    ) as caught:
        load_data(tmp_path)
    assert "cut.png: damaged" in str(caught.value)
    data = load_data(tmp_path, on_bad="skip")
    assert len(data.train) + len(data.val) == 10
    assert "dangling.png: cannot be read" in data.notes[0]


def test_progress_counts_every_file(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    load_data(folder_of(tmp_path, {"a": 3, "b": 3}), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 6) for i in range(1, 7)]


def test_the_data_folder_is_not_written_to(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": 3, "b": 3})
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    load_data(tmp_path)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data(root)
    return str(caught.value)


def test_refused_folders(tmp_path: Path) -> None:
    assert "not found" in refusal(tmp_path / "nowhere")
    assert "is a file" in refusal(draw(tmp_path / "image.png", 0))
    (tmp_path / "empty").mkdir()
    assert "no class folders" in refusal(tmp_path / "empty")
    draw(tmp_path / "flat" / "1.png", 0)
    assert "1 images but no class folders" in refusal(tmp_path / "flat")


def test_one_class_is_refused_and_nesting_is_guessed(tmp_path: Path) -> None:
    folder_of(tmp_path / "animals", {"cat": 3, "dog": 3})
    message = refusal(tmp_path)
    assert "one class, 'animals'" in message
    assert f"did you mean {tmp_path / 'animals'}?" in message


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "bird").mkdir()
    assert "no images in class 'bird'" in refusal(tmp_path)


def test_a_class_with_nothing_but_broken_files_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"class 'bird' .* has no image that can be used"):
        load_data(tmp_path, on_bad="skip")


def test_loose_images_beside_classes_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    draw(tmp_path / "loose.png", 5)
    assert "1 images lie in" in refusal(tmp_path)


def test_a_class_missing_on_one_side_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "train", {"bird": 2, "cat": 2, "dog": 2})
    folder_of(tmp_path / "val", {"cat": 2, "dog": 2}, seed=50)
    assert f"{tmp_path / 'val'} has no class 'bird', which {tmp_path / 'train'} has" in refusal(tmp_path)
    shutil.rmtree(tmp_path / "train" / "bird")
    shutil.rmtree(tmp_path / "train" / "cat")
    folder_of(tmp_path / "train", {"fish": 2})
    folder_of(tmp_path / "val", {"fish": 2, "whale": 2}, seed=70)
    assert f"{tmp_path / 'train'} has no class 'cat', 'whale', which {tmp_path / 'val'} has" in refusal(tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 3, "dog": 1})
    shutil.copy(tmp_path / "dog" / "0.png", tmp_path / "dog" / "again.png")
    assert "class 'dog' has 1 distinct image: too few" in refusal(tmp_path)


def test_classes_that_look_alike_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, {"Café": 2, "cafe\u0301": 2})
    assert "differ only in case, spaces or Unicode form" in refusal(tmp_path)


def test_unknown_splits_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "plain", {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match="no folder test/"):
        load_split(tmp_path / "plain", "test")
    assert len(load_split(tmp_path / "plain")[1]) == 4
    folder_of(tmp_path / "both" / "train", {"cat": 2, "dog": 2})
    folder_of(tmp_path / "both" / "val", {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match="is split into train, val"):
        load_split(tmp_path / "both", "all")


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 4, "dog": 4})
    before = load_data(tmp_path).fingerprint()
    assert load_data(tmp_path).fingerprint() == before
    draw(tmp_path / "cat" / "0.png", seed=999)
    assert load_data(tmp_path).fingerprint() != before


@pytest.mark.parametrize("compress", [True, False])
def test_idx_files(tmp_path: Path, compress: bool) -> None:
    write_idx(tmp_path, {"train": 60, "t10k": 12}, compress=compress)
    data = load_data(f"idx:{tmp_path}")
    assert data.classes == ("0", "1", "2")
    assert data.test is not None
    assert [len(part) for part in (data.train, data.val, data.test)] == [48, 12, 12]
    image = data.train.image(5, channels=3)
    assert image.mode == "RGB"
    assert image.size == (28, 28)
    assert len(load_split(f"idx:{tmp_path}")[1]) == 12


def test_idx_refusals(tmp_path: Path) -> None:
    assert "dataset-fashion-mnist" in refusal_idx(tmp_path / "nowhere")
    write_idx(tmp_path, {"train": 60})
    assert "neither t10k-images" in refusal_idx(tmp_path)
    write_idx(tmp_path, {"t10k": 10}, compress=False)
    images = tmp_path / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    assert "truncated" in refusal_idx(tmp_path)
    images.write_bytes(b"something else")
    assert "not an IDX file" in refusal_idx(tmp_path)
    images.unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bxxxx")
    assert "cannot be read" in refusal_idx(tmp_path)


def refusal_idx(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data(f"idx:{folder}")
    return str(caught.value)
