"""The picture is there, is not blank, and shows what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.recommendation import Recommendation, picture
from hybridvit.recommendation.picture import picture as draw
from tests.recommendation.examples import example, row

pytest.importorskip("matplotlib")


def pixels_of(found: Recommendation, path: Path) -> np.ndarray:
    draw(found, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has(pixels: np.ndarray, colour: str) -> bool:
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return bool((np.abs(pixels - wanted).max(axis=2) < 8).sum() > 20)


def test_it_shows_points_the_front_and_the_recommended(tmp_path: Path) -> None:
    pixels = pixels_of(example(limit=0.3), tmp_path / "a.png")
    assert pixels.shape[0] > 500
    assert 0.02 < (pixels < 250).any(axis=2).mean() < 0.5
    assert has(pixels, picture.ORANGE)
    assert has(pixels, picture.BLUE)
    assert not np.array_equal(pixels, pixels_of(example(), tmp_path / "b.png")), "the limit is not drawn"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.png", "b.png"]


def test_names_of_any_kind_and_a_single_model(tmp_path: Path) -> None:
    name = "local-dir:/a/$very$/long/_path_" + "x" * 300 + "/\N{SNOWMAN}"
    pixels = pixels_of(example(row(name, 0.5, 0.02), data="$a$/my_photos"), tmp_path / "a.png")
    assert has(pixels, picture.ORANGE)
