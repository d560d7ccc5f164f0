"""The sample images: what their README says of them is so."""

import re
from pathlib import Path

import pytest
from PIL import Image

from hybridvit.zoo_path import zoo_path

EMOJI = zoo_path() / "samples" / "emoji"


def images(split: str) -> dict[str, list[Path]]:
    return {folder.name: sorted(folder.iterdir()) for folder in sorted((EMOJI / split).iterdir())}


def test_the_readme_counts_right() -> None:
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|", (EMOJI / "README.md").read_text(), re.MULTILINE)
    train, val = images("train"), images("val")
    assert [(label, str(len(train[label])), str(len(val[label]))) for label in train] == rows
    assert sum(len(paths) for split in (train, val) for paths in split.values()) == 416


def test_no_image_is_in_both_splits() -> None:
    train, val = (
        {path.read_bytes() for paths in images(split).values() for path in paths} for split in ("train", "val")
    )
    assert not train & val


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_image_is_a_64_pixel_rgba_png(split: str) -> None:
    for paths in images(split).values():
        for path in paths:
            with Image.open(path) as image:
                image.load()
                assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (64, 64)), path


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in EMOJI.rglob("*") if path.is_file()) < 2_500_000
