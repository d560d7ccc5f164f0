"""Splits and folds: in equal shares, copies together, a function of content and seed."""

from pathlib import Path

import numpy as np
import pytest

from hybridvit.transfer.data import Data, folds, load_data, split_stratified, split_table
from hybridvit.transfer.data.split import fewest_in_a_class, stratified_sample
from hybridvit.transfer.errors import DataError
from tests.transfer.samples import draw, folder_of, image_set


def several_labels(count: int = 400, seed: int = 0) -> np.ndarray:
    """Labels of very different frequency: 50 %, 20 %, 5 % and four images."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 4)) < [0.5, 0.2, 0.05, 0]).astype(np.float32)
    labels[rng.choice(count, 4, replace=False), 3] = 1
    return labels


def test_every_label_is_held_out_in_its_share() -> None:
    images = image_set(several_labels())
    train, val = split_stratified(images, list("abcd"), 0.25, seed=0)
    assert len(train) + len(val) == 400
    assert abs(len(val) - 100) <= 2
    assert np.abs(val.counts(4) - images.counts(4) * 0.25).max() <= 1.5
    assert val.counts(4)[3] == 1


def test_the_rarest_labels_are_shared_out_first() -> None:
    """So that the images that have them are not spent on the labels that nearly all have."""
    labels = np.zeros((200, 4), np.float32)
    labels[:190, 0] = 1
    labels[:2, 1] = labels[2:10, 2] = labels[5:15, 3] = 1
    for seed in range(10):
        val = split_stratified(image_set(labels), list("abcd"), 0.2, seed)[1]
        assert val.counts(4)[1] == 1
        assert val.counts(4)[2] in (1, 2)
        assert val.counts(4)[3] == 2
        assert abs(val.counts(4)[0] - 38) <= 1


def test_the_split_of_several_labels_depends_on_content_and_seed_only() -> None:
    images = image_set(several_labels())
    held_out = set(split_stratified(images, list("abcd"), 0.2, seed=0)[1].digests)
    shuffled = images.subset(np.random.default_rng(1).permutation(400))
    assert set(split_stratified(shuffled, list("abcd"), 0.2, seed=0)[1].digests) == held_out
    assert set(split_stratified(images, list("abcd"), 0.2, seed=1)[1].digests) != held_out


def test_copies_with_several_labels_stay_together() -> None:
    images = image_set(several_labels(), contents=[i // 2 for i in range(400)])
    train, val = split_stratified(images, list("abcd"), 0.2, seed=0)
    assert not set(train.digests) & set(val.digests)
    assert abs(len(val) - 80) <= 4


def test_a_label_of_one_image_stays_in_train() -> None:
    labels = several_labels()
    labels[:, 3] = 0
    labels[7, 3] = 1
    for seed in range(5):
        assert split_stratified(image_set(labels), list("abcd"), 0.2, seed)[0].counts(4)[3] == 1


@pytest.mark.parametrize("several", [False, True])
def test_each_image_is_in_one_fold_s_val(several: bool) -> None:
    one = np.repeat(np.arange(4), [200, 120, 60, 20])
    labels = np.repeat(several_labels(200), 2, axis=0) if several else one
    images = image_set(labels, contents=[i // 2 for i in range(400)])
    found = folds(images, list("abcd"), 5, seed=0)
    assert len(found) == 5
    assert sorted(name for _, val in found for name in val.names) == sorted(images.names)
    for train, val in found:
        assert len(train) + len(val) == 400
        assert not set(train.digests) & set(val.digests)
        assert np.abs(val.counts(4) - images.counts(4) / 5).max() <= 2
    again = folds(images, list("abcd"), 5, seed=0)
    assert [val.names for _, val in again] == [val.names for _, val in found]
    assert [val.names for _, val in folds(images, list("abcd"), 5, seed=1)] != [val.names for _, val in found]


def test_data_is_loaded_fold_by_fold(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val", "test")):
        folder_of(tmp_path / split, {"cat": 4, "dog": 5}, seed=100 * seed)
    parts = [load_data(tmp_path, fold=(number, 3)) for number in (1, 2, 3)]
    held_out = [name for part in parts for name in part.val.names]
    assert sorted(held_out) == sorted({*parts[0].train.names, *parts[0].val.names})
    assert {name.split("/")[0] for name in held_out} == {"train", "val"}  # all but what is for testing
    for part in parts:
        assert part.test is not None
        assert len(part.test) == 9
        assert part.report is not None
        assert list(part.report.counts) == ["train", "val", "test"]
    plain = load_data(folder_of(tmp_path / "plain", {"cat": 4, "dog": 5}), fold=(1, 2))
    assert plain.test is None
    for fold in ((0, 3), (4, 3), (1, 1)):
        with pytest.raises(DataError, match=r"fold must be \(NUMBER, COUNT\)"):
            load_data(tmp_path, fold=fold)


def test_folds_that_cannot_be() -> None:
    images = image_set(np.array([0] * 10 + [1] * 3))
    with pytest.raises(DataError, match="class 'b' has 3 distinct images, too few for 5 folds"):
        folds(images, "ab", 5, seed=0)
    for count in (1, 14):
        with pytest.raises(DataError, match=f"between 2 and the 13 distinct images, got {count}"):
            folds(images, "ab", count, seed=0)


def test_a_share_that_is_none() -> None:
    for share in (0.0, 1.0, -1):
        with pytest.raises(DataError, match="val_fraction must be between 0 and 1"):
            split_stratified(image_set(np.arange(4) % 2), "ab", share, seed=0)


# split.csv


def with_split_file(root: Path) -> tuple[Path, Data, Path]:
    folder = folder_of(root / "images", {"cat, big": 10, "dog": 10})
    data = load_data(folder, seed=3)
    path = root / "split.csv"
    path.write_text(split_table(data), encoding="utf-8")
    return folder, data, path


def test_the_split_file_gives_the_same_split_again(tmp_path: Path) -> None:
    folder, data, path = with_split_file(tmp_path)
    lines = path.read_text().splitlines()
    assert lines[0] == "split,class,image,content"
    assert f'train,"cat, big","{data.train.names[0]}",{data.train.digests[0].hex()[:16]}' == lines[1]
    again = load_data(folder, seed=5, split=path)
    assert again.fingerprint() == data.fingerprint() != load_data(folder, seed=5).fingerprint()
    assert split_table(again) == path.read_text()


def test_the_split_file_stands_above_given_folders(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        folder_of(tmp_path / "images" / split, {"cat": 3, "dog": 3}, seed=100 * seed)
    data = load_data(tmp_path / "images")
    text = split_table(data).replace("val,cat,val/cat/0.png", "test,cat,val/cat/0.png")
    (tmp_path / "split.csv").write_text(text)
    again = load_data(tmp_path / "images", split=tmp_path / "split.csv")
    assert again.test is not None
    assert again.test.names == ("val/cat/0.png",)


def test_several_labels_stand_in_one_cell(tmp_path: Path) -> None:
    images = image_set(np.array([[1, 1], [1, 0], [0, 0], [0, 1]], np.float32))
    train, val = images.subset([0, 1]), images.subset([2, 3])
    assert [line.split(",")[1] for line in split_table(Data(("a", "b"), train, val, None)).splitlines()[1:]] == [
        *("a;b", "a", "", "b"),
    ]


def test_a_split_file_of_other_images_is_refused(tmp_path: Path) -> None:
    folder, _, path = with_split_file(tmp_path)

    def refusal() -> str:
        with pytest.raises(DataError) as caught:
            load_data(folder, split=path)
        return str(caught.value)

    draw(folder / "dog" / "new.png", seed=77)
    assert f"1 images are not in {path} (first: dog/new.png); remove them" in refusal()
    draw(folder / "dog" / "new.png", seed=77).rename(folder / "dog" / "0.png")
    assert f"1 images have other content than when {path} was written (first: dog/0.png)" in refusal()
    (folder / "dog" / "0.png").unlink()
    assert f"1 images of {path} are not in the data (first: dog/0.png); put them back" in refusal()
    path.write_text("a,b\n1,2\n")
    assert "has no column 'split'; give the split.csv of a run" in refusal()
    path.write_text("split,image\nall,dog/1.png\n")
    assert "line 2: the split must be train, val or test, got 'all'" in refusal()
    path.unlink()
    assert "not found" in refusal()


def test_a_set_of_one_image_cannot_be_split() -> None:
    images = image_set(np.ones((1, 2), np.float32))
    with pytest.raises(DataError, match="too few"):
        split_stratified(images, "ab", 0.2, seed=0)


def test_a_sample_keeps_the_shares_of_the_classes_and_a_few_of_each() -> None:
    images = image_set(np.repeat([0, 1, 2], [600, 390, 10]))
    sample = stratified_sample(images, list("abc"), 100, seed=0)
    assert sample.counts(3).tolist() == [60, 39, 5]
    assert set(sample.names) <= set(images.names)
    shuffled = np.random.default_rng(1).permutation(len(images))
    again = stratified_sample(images.subset(shuffled), list("abc"), 100, seed=0)
    assert set(again.names) == set(sample.names)
    assert set(stratified_sample(images, list("abc"), 100, seed=1).names) != set(sample.names)
    assert stratified_sample(images, list("abc"), 100, seed=0, least=20).counts(3)[2] == 10


def test_a_sample_has_one_of_each_content() -> None:
    copies = image_set(np.repeat([0, 1], 50), contents=[i // 5 for i in range(100)])
    assert len(stratified_sample(copies, list("ab"), 1_000, seed=0)) == 20
    part = stratified_sample(copies, list("ab"), 10, seed=0)
    assert len(set(part.digests)) == len(part) == 10
    assert fewest_in_a_class(copies, list("ab")) == 10


def test_a_sample_of_several_labels_has_the_rare_ones() -> None:
    images = image_set(several_labels())
    sample = stratified_sample(images, list("abcd"), 100, seed=0)
    assert sample.counts(4)[3] == 4
    assert np.abs(sample.counts(4)[:3] - images.counts(4)[:3] * 0.25).max() < 15


def test_parts_are_joined_again() -> None:
    images = image_set(np.arange(20) % 2)
    train, val = split_stratified(images, list("ab"), 0.3, seed=0)
    joined = train.joined(val)
    assert joined.names == train.names + val.names
    assert [images.names[place] for place in joined.places] == list(joined.names)
    assert joined.labels.tolist() == [*train.labels, *val.labels]
