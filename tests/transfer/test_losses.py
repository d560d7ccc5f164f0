"""Losses against torch's and torchmetrics' figures, by hand, and in a run."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from hybridvit.transfer.data import Data
from hybridvit.transfer.errors import RecipeError
from hybridvit.transfer.losses import asymmetric, hits, label_loss
from hybridvit.transfer.recipe import Recipe
from tests.transfer.samples import FAST, trainer_of, with_several_labels

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 0, 0, 1, 2, 2])
TARGETS = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0], [1, 0, 0]])


def test_auto_is_what_fits_the_labels() -> None:
    logits = torch.randn(6, 3)
    found = label_loss(Recipe(label_smoothing=0.1), LABELS, 3, CPU)(logits, LABELS)
    assert found == F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    several = label_loss(Recipe(label_smoothing=0.0), TARGETS, 3, CPU)(logits[:4], TARGETS)
    assert several == F.binary_cross_entropy_with_logits(logits[:4], TARGETS)
    with pytest.raises(RecipeError, match="loss ce is for one label an image"):
        label_loss(Recipe(loss="ce"), TARGETS, 3, CPU)


def test_smoothing_of_binary_targets() -> None:
    logits = torch.randn(4, 3)
    several = label_loss(Recipe(label_smoothing=0.2), TARGETS, 3, CPU)(logits, TARGETS)
    assert several.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, TARGETS * 0.8 + 0.1).item())
    one = label_loss(Recipe(loss="bce", label_smoothing=0.3), LABELS, 3, CPU)(logits, LABELS[:4])
    hot = F.one_hot(LABELS[:4], 3) * 0.7 + 0.1
    assert one.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, hot).item())


def test_rare_classes_weigh_more() -> None:
    recipe = Recipe(balance="weights", label_smoothing=0.0)
    weighted = label_loss(recipe, LABELS, 3, CPU)
    logits = torch.zeros(1, 3)
    by_class = [weighted(logits, torch.tensor([label])).item() / math.log(3) for label in range(3)]
    assert by_class == pytest.approx([6 / 9, 2.0, 1.0])  # 3, 1 and 2 images: each class as heavy as the others
    assert weighted(torch.zeros(6, 3), LABELS).item() == pytest.approx(math.log(3))
    halves = [weighted(torch.zeros(3, 3), part).item() for part in LABELS.split(3)]
    assert sum(halves) / 2 == pytest.approx(math.log(3))  # a batch may be dealt out to processes

    positive = label_loss(recipe, TARGETS, 3, CPU)
    assert positive(torch.zeros(1, 3), torch.tensor([[0.0, 1, 0]])).item() == pytest.approx(5 / 3 * math.log(2))


def test_asymmetric_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, -5.0]])
    p = torch.sigmoid(torch.tensor(-1.0)).item() - 0.05
    expected = (math.log1p(math.exp(-2)) - p**4 * math.log(1 - p)) / 3  # that of -5 lies below the margin
    assert asymmetric(logits, torch.tensor([[1.0, 0, 0]])).item() == pytest.approx(expected, rel=1e-5)
    easy = asymmetric(torch.full((1, 3), -3.0), torch.zeros(1, 3))
    assert 0 <= easy < 1e-6


@pytest.mark.parametrize("loss", ["bce", "asymmetric"])
def test_several_labels_are_learned(rows: Data, tmp_path: Path, loss: str) -> None:
    run = trainer_of(with_several_labels(rows), tmp_path, FAST.replace(epochs=5, loss=loss, mixup=0.1))
    run.fit()
    assert run.position.best_accuracy > 0.9
    assert run.history[-1].train_accuracy > run.history[0].train_accuracy


def test_hits() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.0, 1.0]])
    assert hits(logits, torch.tensor([0, 0]), multi_label=False).tolist() == [True, False]
    assert hits(logits, torch.tensor([[0.9, 0.1], [0.6, 0.4]]), multi_label=False).tolist() == [True, False]
    assert hits(logits, torch.tensor([[1.0, 1.0], [0.0, 1.0]]), multi_label=True).tolist() == [0.5, 1.0]
