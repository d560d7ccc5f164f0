"""What the check tells before training, as notes, as JSON and as pictures."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.transfer.data import Data, checks, load_data
from hybridvit.transfer.data.pictures import pictures
from hybridvit.transfer.data.report import DataReport
from hybridvit.transfer.errors import DataError
from tests.transfer.data.test_table import lines, table
from tests.transfer.samples import folder_of


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    """Given splits with something of everything."""
    root = tmp_path / "varied"
    folder_of(root / "train", {"cat": 6, "$}dog$": 1})
    folder_of(root / "val", {"cat": 2, "$}dog$": 1}, seed=5000)
    cats = root / "train" / "cat"
    shutil.copy(cats / "0.png", cats / "copy.png")
    shutil.copy(cats / "1.png", root / "val" / "cat" / "seen.png")
    shutil.copy(cats / "2.png", root / "train" / "$}dog$" / "torn.png")
    Image.new("RGB", (40, 30), "white").save(cats / "white.jpg")
    frames = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)) for i in range(2)]
    frames[0].save(cats / "moving.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(9).integers(0, 256, (2, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(cats / "turned.jpg", exif=exif)
    (cats / "broken.png").write_bytes(b"%PDF-1.7")
    return root


def reported(data: Data) -> DataReport:
    assert data.report is not None
    return data.report


def test_everything_is_counted(varied: Path) -> None:
    data = load_data(varied, on_bad="skip")
    report = reported(data).to_dict()
    assert json.loads(json.dumps(report)) == report
    assert str(varied.parent) not in json.dumps(report)
    assert report["images"] == 16
    assert report["classes"] == ["$}dog$", "cat"]
    assert report["counts"] == {"train": [2, 10], "val": [1, 3]}
    assert report["imbalance"] == 5
    assert report["sizes"] == {"smallest": [24, 2], "median": [8, 8], "largest": [40, 30], "aspect": [1.0, 1.0, 12.0]}
    assert report["modes"] == {"RGB": 15, "P": 1}
    assert report["formats"] == {"PNG": 13, "JPEG": 2, "GIF": 1}
    (broken,) = report["broken"]["first"]
    assert broken["image"] == "train/cat/broken.png"
    assert "not an image" in broken["reason"]
    assert report["copies"]["train"]["count"] == 4
    assert set(report["copies_with_other_labels"]["first"]) == {"train/cat/2.png", "train/$}dog$/torn.png"}
    assert report["shared_with_train"] == {"val": {"count": 1, "first": ["val/cat/seen.png"]}}
    assert report["near_constant"]["first"] == ["train/cat/white.jpg"]
    assert report["rotated"]["first"] == ["train/cat/turned.jpg"]
    assert report["animated"]["first"] == ["train/cat/moving.gif"]
    assert report["not_finite"] == {"count": 0, "first": []}


def test_what_matters_is_told(varied: Path) -> None:
    notes = load_data(varied, on_bad="skip").notes
    assert any(note.startswith("left out: 1 of 17 files") for note in notes)
    assert "2 of 12 images of train/ are exact copies of others" in notes
    assert "1 images are of one colour, or nearly (first: train/cat/white.jpg)" in notes
    assert "1 images of val/ are also in train/: its accuracy will look better than it is" in notes


def test_images_are_checked_in_their_order_however_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, {"cat": 9, "dog": 8})
    expected = load_data(tmp_path).fingerprint()
    monkeypatch.setattr(checks, "_AT_A_TIME", 4)
    calls: list[tuple[int, int]] = []
    again = load_data(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert again.fingerprint() == expected
    assert calls == [(i, 17) for i in range(1, 18)]


def test_incomplete_classes_are_told(tmp_path: Path) -> None:
    rows = ["cat,train"] * 24 + ["dog,train", "cat,val"]
    report = reported(load_data(table(tmp_path, lines(rows, "path,label,split"), images=26)))
    assert report.suspicious == (("dog", "has 1 training images"), ("dog", "has no image in val"))
    assert report.imbalance == 24
    assert "1 classes look incomplete (first: 'dog' has 1 training images)" in report.notes


def test_a_fine_texture_is_not_taken_for_constant(tmp_path: Path) -> None:
    """Although it is, at the eighth of its size at which the check decodes."""
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    checkers = np.tile(np.array([[118, 138], [138, 118]], np.uint8), (64, 64))
    Image.fromarray(checkers).save(tmp_path / "cat" / "fine.jpg", quality=95)
    assert reported(load_data(tmp_path)).near_constant == ()


def test_pictures(varied: Path) -> None:
    found = pictures(load_data(varied, on_bad="skip"))
    assert set(found) == {"class_counts", "sizes", "samples", "suspicious"}
    for content in found.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 100


def test_pictures_of_many_classes_and_of_several_labels(tmp_path: Path) -> None:
    many = pictures(load_data(folder_of(tmp_path / "many", {f"クラス {i}": 2 for i in range(60)})))
    assert "suspicious" not in many
    with Image.open(io.BytesIO(many["class_counts"])) as picture:
        assert picture.height < 1500
    several = load_data(table(tmp_path, lines(["a;b", "a", "b", "a;b", "a", "b", "a", "b"])))
    assert set(pictures(several)) == {"class_counts", "sizes", "samples"}


def test_a_picture_is_not_worth_a_run(varied: Path) -> None:
    data = load_data(varied, on_bad="skip")
    shutil.rmtree(varied)
    assert set(pictures(data)) == {"class_counts", "sizes", "samples"}


def test_channels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    report = reported(load_data(tmp_path))
    for channels in (1, 3):
        report.require_channels(channels)
    with pytest.raises(DataError, match=r"6 of 6 images do not have the 5 channels .* \(first: cat/0\.png, RGB\)"):
        report.require_channels(5)
    np.save(tmp_path / "cat" / "bands.npy", np.random.default_rng(0).random((8, 8, 5)))
    with pytest.raises(DataError, match=r"1 of 7 .* 3 channels .* \(first: cat/bands\.npy, 5 bands of float64\)"):
        reported(load_data(tmp_path)).require_channels(3)
