"""Datasets of the library `datasets`: local folders and files, found by the types of their columns."""

import io
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridvit.transfer.data import load_data, load_split
from hybridvit.transfer.errors import DataError
from tests.transfer.samples import folder_of

datasets = pytest.importorskip("datasets", reason="needs the extra hf")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def encoded(seed: int) -> dict[str, Any]:
    """A 16-bit grey image, which a library that decodes by itself would flatten."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 65536, (8, 9), dtype=np.uint16)
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def dataset(count: int, first: int = 0, names: tuple[str, ...] = ("cat", "dog")) -> Any:
    features = datasets.Features({"picture": datasets.Image(), "animal": datasets.ClassLabel(names=list(names))})
    rows = {
        "picture": [encoded(first + i) for i in range(count)],
        "animal": [i % len(names) for i in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def refusal(data: str) -> str:
    with pytest.raises(DataError) as caught:
        load_data(data)
    return str(caught.value)


def test_a_saved_dataset_is_split_like_a_folder(tmp_path: Path) -> None:
    dataset(20, names=("zebra", "ant")).save_to_disk(tmp_path / "saved")
    data = load_data(f"hf:{tmp_path / 'saved'}")
    assert data.classes == ("zebra", "ant")  # the order of the feature
    assert [len(part) for part in data.parts.values()] == [16, 4]
    assert data.notes[0].endswith("images from column 'picture', labels from column 'animal'")
    for part in data.parts.values():
        for index, name in enumerate(part.names):
            number = int(name.removeprefix("image/"))
            assert part.read(index) == encoded(number)["bytes"]
            assert part.labels[index] == number % 2
    image = data.train.image(0, channels=1)
    assert isinstance(image, Image.Image)
    assert len(np.unique(np.asarray(image))) > 20  # of 16 bits, and not all white


def test_existing_splits_are_kept(tmp_path: Path) -> None:
    parts = {"train": dataset(8), "validation": dataset(4, 20), "test": dataset(2, 40)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    where = f"hf:{tmp_path / 'saved'}"
    data = load_data(where)
    assert [(split, len(part)) for split, part in data.parts.items()] == [("train", 8), ("val", 4), ("test", 2)]
    assert load_split(where)[1].names == ("test/0", "test/1")
    assert data.test is not None
    assert data.test.read(1) == encoded(41)["bytes"]


def test_a_parquet_file(tmp_path: Path) -> None:
    dataset(10).to_parquet(tmp_path / "images.parquet")
    assert load_data(f"hf:{tmp_path / 'images.parquet'}").classes == ("cat", "dog")


def test_an_image_folder(tmp_path: Path) -> None:
    folder_of(tmp_path / "folder", {"cat": 5, "dog": 5})
    data = load_data(f"hf:{tmp_path / 'folder'}")
    assert data.classes == ("cat", "dog")
    assert set(data.val.digests) == set(load_data(tmp_path / "folder").val.digests)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["cat", "dog"]


def test_several_labels(tmp_path: Path) -> None:
    rows = {"image": [encoded(i) for i in range(8)], "labels": [[0, 1] if i % 2 else [0] for i in range(8)]}
    listed = datasets.Sequence(datasets.ClassLabel(names=["a", "b"]))
    features = datasets.Features({"image": datasets.Image(), "labels": listed})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    data = load_data(f"hf:{tmp_path / 'saved'}")
    assert data.multi_label
    assert data.classes == ("a", "b")
    assert sum(part.labels[:, 1].sum() for part in data.parts.values()) == 4


def test_text_labels_and_a_split_without_labels(tmp_path: Path) -> None:
    rows = {"image": [encoded(i) for i in range(8)], "label": ["b" if i % 2 else "a" for i in range(8)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    train = datasets.Dataset.from_dict(rows, features=features)
    unknown = datasets.Dataset.from_dict(rows | {"label": [None] * 8}, features=features)
    datasets.DatasetDict(train=train, test=unknown).save_to_disk(tmp_path / "saved")
    data = load_data(f"hf:{tmp_path / 'saved'}")
    assert data.classes == ("a", "b")
    assert data.test is None
    assert any("split 'test'" in note and "8 of its images have no label" in note for note in data.notes)


def test_refused_datasets(tmp_path: Path) -> None:
    assert "nowhere: no such folder or file" in refusal(f"hf:{tmp_path / 'nowhere'}")
    assert "hf:nobody/nothing is not a local folder or file that it reads, nor a dataset of its Hub" in refusal(
        "hf:nobody/nothing"
    )
    datasets.Dataset.from_dict({"label": [1, 2]}).save_to_disk(tmp_path / "none")
    assert "no image column; its columns are 'label'" in refusal(f"hf:{tmp_path / 'none'}")
    dataset(4).rename_column("animal", "kind").cast_column("kind", datasets.Value("int64")).save_to_disk(tmp_path / "k")
    assert "no column that is clearly the label; its columns are 'picture', 'kind'" in refusal(f"hf:{tmp_path / 'k'}")
    (tmp_path / "not").mkdir()
    (tmp_path / "not" / "state.json").write_text("{}")
    assert f"hf:{tmp_path / 'not'} is not readable" in refusal(f"hf:{tmp_path / 'not'}")
    datasets.DatasetDict(one=dataset(4), two=dataset(4)).save_to_disk(tmp_path / "odd")
    assert "splits 'one', 'two'; they must be train, validation and test" in refusal(f"hf:{tmp_path / 'odd'}")


def test_the_library_that_is_needed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'hybridvit[hf]'" in refusal(f"hf:{tmp_path}")


def test_what_travels_to_workers_is_small(tmp_path: Path) -> None:
    dataset(40).save_to_disk(tmp_path / "saved")
    images = load_data(f"hf:{tmp_path / 'saved'}").train
    packed = pickle.dumps(images)
    assert len(packed) < sum(len(images.read(index)) for index in range(len(images)))
    assert pickle.loads(packed).read(3) == images.read(3)
