"""Learning from a teacher."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hybridvit.encoder import Encoder
from hybridvit.preprocess import Preprocess
from hybridvit.transfer.data import Data
from hybridvit.transfer.distillation import Teacher
from hybridvit.transfer.errors import DataError
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.run import finetune
from hybridvit.transfer.transforms import default_preprocess
from hybridvit.weights.store import save_pretrained
from tests.transfer.samples import FAST, tiny, trainer_of, write_idx

CLASSES = ("0", "1", "2")
STUDENT = default_preprocess((16, 16), 1)
CPU = torch.device("cpu")


def teacher_model(labels: tuple[str, ...] | None = CLASSES, preprocess: Preprocess = STUDENT) -> Encoder:
    model = tiny()
    with torch.no_grad():
        model.head.weight.mul_(20)
    model.labels, model.preprocess = labels, preprocess
    return model


def test_a_teacher_sees_images_as_it_was_trained_to_and_answers_in_our_order() -> None:
    other = dataclasses.replace(STUDENT, mean=(0.2,), std=(0.1,), input_size=(24, 24))
    model = teacher_model(("2", "0", "1"), other)
    teacher = Teacher(model, CLASSES, STUDENT, Recipe(), CPU)
    pixels = torch.rand(2, 1, 16, 16)
    seen = F.interpolate((pixels - 0.2) / 0.1, (24, 24), mode="bilinear", antialias=True)
    expected = model(seen)[:, [1, 2, 0]]
    torch.testing.assert_close(teacher.logits((pixels - 0.5) / 0.5), expected, atol=1e-4, rtol=1e-4)
    assert not teacher.logits(pixels).requires_grad
    assert not model.training


@pytest.mark.parametrize("distill", ["soft", "hard"])
def test_both_opinions_are_weighed(distill: str) -> None:
    recipe = Recipe(distill=distill, distill_weight=0.25, distill_temperature=2.0)
    teacher = Teacher(teacher_model(), CLASSES, STUDENT, recipe, CPU)
    images, logits = torch.randn(4, 1, 16, 16), torch.randn(4, 3)
    theirs = teacher.logits(images)
    taught = F.cross_entropy(logits, theirs.argmax(1))
    if distill == "soft":
        shares = (theirs / 2).softmax(1)
        taught = 4 * (shares * (shares.log() - (logits / 2).log_softmax(1))).sum(1).mean()
    found = teacher.mixed(torch.tensor(3.0), logits, images)
    assert found.item() == pytest.approx((0.75 * 3 + 0.25 * taught).item(), rel=1e-5)


def test_teachers_that_cannot_teach_are_refused() -> None:
    with pytest.raises(DataError, match="the teacher does not know 'c'; it needs every class"):
        Teacher(teacher_model(), ("0", "1", "c"), STUDENT, Recipe(), CPU)
    with pytest.raises(DataError, match="images of 1 channels, the student of 3"):
        Teacher(teacher_model(), CLASSES, default_preprocess((16, 16), 3), Recipe(), CPU)


def test_a_student_comes_to_agree_with_its_teacher(rows: Data, tmp_path: Path) -> None:
    """Even where the teacher is wrong, if only its opinion counts."""
    taught = FAST.replace(epochs=6, distill_weight=1.0, distill="hard", label_smoothing=0.0)
    master = trainer_of(rows, tmp_path / "teacher", FAST.replace(epochs=4))
    master.fit()
    model = master.model
    model.labels, model.preprocess = ("1", "2", "0"), STUDENT  # it gives every class another's name
    student = trainer_of(rows, tmp_path / "student", taught, teacher=Teacher(model, CLASSES, STUDENT, taught, CPU))
    student.fit()
    with torch.inference_mode():
        images = torch.cat([images for images, _ in student.batches.epoch(0)])
        ours, theirs = student.model.eval()(images).argmax(1), model(images).argmax(1)
    assert (ours == (theirs + 1) % 3).double().mean() > 0.8


def test_finetune_takes_a_directory_and_keeps_its_name_only(tmp_path: Path) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    save_pretrained(teacher_model(), tmp_path / "master")
    recipe = FAST.replace(epochs=1, channels=1, image_size=16)
    options: dict[str, Any] = {"recipe": recipe, "pretrained": False, "progress": False}
    alone = finetune("cct_2_3x2_32", data, tmp_path / "alone", **options)
    taught = finetune("cct_2_3x2_32", data, tmp_path / "run", teacher=str(tmp_path / "master"), **options)
    assert taught.history[0].train_loss != alone.history[0].train_loss
    origin = json.loads((tmp_path / "run" / "config.json").read_text())["origin"]
    assert origin["distilled_from"] == "master"
    assert str(tmp_path) not in json.dumps(origin)
