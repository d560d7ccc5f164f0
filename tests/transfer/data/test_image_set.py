"""Image sets that travel, and the pictures of them that people look at."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from hybridvit.transfer.data import load_data
from tests.transfer.data.memory import image_set
from tests.transfer.samples import draw, folder_of


def test_what_travels_to_workers_does_not_grow_with_the_files(tmp_path: Path) -> None:
    sizes = []
    for side in (8, 200):
        for name in ("cat", "dog"):
            for i in range(5):
                draw(
                    tmp_path / f"{side:03d}" / name / f"{i}.png", seed=i + 100 * len(name) * (name == "dog"), side=side
                )
        sizes.append(len(pickle.dumps(load_data(tmp_path / f"{side:03d}").train)))
    assert sizes[0] == sizes[1] < 3_000


def test_grey_models_are_shown_grey_pictures(tmp_path: Path) -> None:
    images = load_data(folder_of(tmp_path, {"cat": 3, "dog": 3})).train
    assert [images.picture(0, channels).mode for channels in (1, 3, 5)] == ["L", "RGB", "RGB"]


def test_a_subset_of_a_subset_has_its_own_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    images = image_set(pixels, np.arange(9) % 2)
    part = images.subset([8, 3, 5]).subset([2, 0])
    assert part.names == ("5.png", "8.png")
    assert part.labels.tolist() == [1, 0]
    for index, number in enumerate((5, 8)):
        assert np.array_equal(np.asarray(part.image(index, channels=1)), pixels[number])


def test_bands_are_stretched_to_be_seen(tmp_path: Path) -> None:
    for name, level in (("cat", 0.0), ("dog", 5000.0)):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = np.random.default_rng(i).uniform(level, level + 10, (9, 8, 5))
            pixels[0, 0], pixels[1, 1] = level, level + 10
            np.save(tmp_path / name / f"{i}.npy", pixels)
    data = load_data(tmp_path)
    for part in data.parts.values():
        for index in range(len(part)):
            picture = part.picture(index)
            assert (picture.mode, picture.size) == ("RGB", (8, 9))
            assert [extremes == (0, 255) for extremes in picture.getextrema()] == [True] * 3


def test_two_bands_are_shown_grey(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(2):
            np.save(tmp_path / name / f"{i}.npy", np.random.default_rng(i + len(name) * ord(name[0])).random((9, 8, 2)))
    picture = load_data(tmp_path).train.picture(0)
    assert isinstance(picture, Image.Image)
    red, green, _ = (np.asarray(band) for band in picture.split())
    assert np.array_equal(red, green)
