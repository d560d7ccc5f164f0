"""The demo goes through every step of the main job; with fewer images and one epoch here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hybridvit.demo import demo
from hybridvit.zoo_path import zoo_path

RECIPE = 'epochs = 1\nbatch_size = 8\nlr = 1e-3\naugment = "none"\nimage_size = 32\nseed = 0\n'


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Two classes of the sample images, with six and three images."""
    for split, count in (("train", 6), ("val", 3)):
        for name in ("animal", "food"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            images = sorted((zoo_path() / "samples" / "emoji" / split / name).iterdir())
            assert len(images) > count
            for image in images[:count]:
                shutil.copy(image, tmp_path / "data" / split / name)
    return tmp_path / "data"


def test_demo_does_the_main_job(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    out = tmp_path / "demo"
    result = demo(out, str(tmp_path / "recipe.toml"), few)
    assert result.logit_difference < 1e-5, "equal but for the order of sums, which depends on the number of threads"
    assert result.margin == result.pretrained_accuracy - result.scratch_accuracy
    for accuracy in (result.pretrained_accuracy, result.scratch_accuracy):
        assert 6 * accuracy == pytest.approx(round(6 * accuracy)), "a share of six images"
    for picture in (result.confusion, result.predictions):
        with Image.open(picture) as opened:
            assert min(opened.size) > 200, opened.size
    saved = json.loads((out / "demo.json").read_text())
    assert saved["pretrained_accuracy"] == result.pretrained_accuracy
    assert (out / "hub").is_dir()
    shown = capsys.readouterr().out
    for part in ("largest difference of the logits", "margin", str(result.confusion), "val/food/"):
        assert part in shown


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / ".demo").touch()
    (tmp_path / "demo" / "model").mkdir()
    with pytest.raises(ValueError, match="no recipe named 'none'"):
        demo(tmp_path / "demo", "none")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [".demo"]


def test_what_is_no_demo_stays(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no demo; name another directory with --out"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
