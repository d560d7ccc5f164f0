"""IDX files: their images come as files like all others, and other processes read them anew."""

import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.transfer.data import ImageSet, load_data, load_split
from hybridvit.transfer.errors import DataError
from tests.transfer.samples import write_idx


def test_images_are_those_of_the_files(tmp_path: Path) -> None:
    where = f"idx:{write_idx(tmp_path, {'train': 30, 't10k': 12}, compress=False)}"
    raw = np.frombuffer((tmp_path / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 28, 28)
    classes, images, _ = load_split(where)
    assert classes == ("0", "1", "2")
    for index in (0, 11):
        assert np.array_equal(np.asarray(Image.open(BytesIO(images.read(index)))), raw[index])
        assert np.array_equal(np.asarray(images.image(index, channels=1)), raw[index])
    assert images.names[11] == "t10k/11"
    assert len(load_split(where, "train")[1]) == 30
    with pytest.raises(DataError, match="it has train, test"):
        load_split(where, "val")


def test_the_report_is_made_without_decoding(tmp_path: Path) -> None:
    report = load_data(f"idx:{write_idx(tmp_path, {'train': 30, 't10k': 12})}").report
    assert report is not None
    assert report.to_dict()["formats"] == {"IDX": 42}
    assert report.to_dict()["sizes"]["median"] == [28, 28]
    assert report.near_constant == ()


def test_what_travels_to_workers_is_small(tmp_path: Path) -> None:
    images = load_data(f"idx:{write_idx(tmp_path, {'train': 300, 't10k': 12})}").train
    packed = pickle.dumps(images)
    assert len(packed) < 20_000 < 300 * 28 * 28 / 10
    again: ImageSet = pickle.loads(packed)
    assert again.read(200) == images.read(200)
