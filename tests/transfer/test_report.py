"""Pictures that say what they should: right and wrong told apart, any number of classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridvit.transfer.metrics import score
from hybridvit.transfer.report import SheetItem, confusion_picture, prediction_sheet, thumbnail

RED, GREEN = (193, 18, 31), (26, 127, 55)


def share_of(path: Path, colour: tuple[int, int, int]) -> float:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return float((np.abs(pixels - colour).max(axis=2) < 12).mean())


@pytest.mark.parametrize(
    ("truth", "has_red", "has_green"), [("cat", False, True), ("dog", True, False), (None, False, False)]
)
def test_wrong_predictions_are_red_and_right_ones_green(
    tmp_path: Path, truth: str | None, has_red: bool, has_green: bool
) -> None:
    prediction_sheet([SheetItem(Image.new("L", (8, 8), 200), "cat", 0.9, truth)], tmp_path / "sheet.png")
    assert (share_of(tmp_path / "sheet.png", RED) > 0.002) == has_red
    assert (share_of(tmp_path / "sheet.png", GREEN) > 0.002) == has_green


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_confusion_matrix_of_any_size(tmp_path: Path, classes: int) -> None:
    labels = torch.randint(classes, (200,))
    evaluation = score(
        torch.randn(200, classes), labels, tuple(f"a rather long class name {i}" for i in range(classes))
    )
    confusion_picture(evaluation, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert 400 < min(picture.size) <= max(picture.size) < 3200


def test_a_perfect_model_has_dark_cells_only_on_the_diagonal(tmp_path: Path) -> None:
    labels = torch.arange(4).repeat(5)
    confusion_picture(score(10 * torch.eye(4)[labels], labels, tuple("abcd")), tmp_path / "confusion.png")
    assert 0.1 < share_of(tmp_path / "confusion.png", (8, 48, 107)) < 0.3


def test_thumbnails_are_small(tmp_path: Path) -> None:
    Image.new("RGB", (900, 300)).save(tmp_path / "wide.jpg")
    assert max(thumbnail(tmp_path / "wide.jpg").size) == 160
