"""Accuracy, calibration and confusion, against numbers worked out by hand and against torchmetrics."""

import json
import math

import pytest
import torch

from hybridvit.transfer.metrics import calibration_error, score


def test_by_hand() -> None:
    logits = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    result = score(logits, torch.tensor([0, 1, 1]), ("a", "b"))
    assert result.top1 == pytest.approx(2 / 3)
    assert result.top5 == 1.0
    assert result.confusion.tolist() == [[1, 0], [1, 1]]
    assert result.per_class == (1.0, 0.5)
    assert result.loss == pytest.approx((2 * math.log1p(math.exp(-3)) + math.log1p(math.exp(3))) / 3)


def test_against_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

    logits, labels = 2 * torch.randn(500, 12), torch.randint(12, (500,))
    result = score(logits, labels, tuple("abcdefghijkl"))
    assert result.top5 == pytest.approx(multiclass_accuracy(logits, labels, 12, top_k=5, average="micro").item())
    reference = multiclass_calibration_error(logits.softmax(1), labels, 12, n_bins=15)
    assert result.ece == pytest.approx(reference.item(), abs=1e-6)


def test_a_class_without_images_is_null_in_json() -> None:
    result = score(torch.eye(3)[:2], torch.tensor([0, 1]), ("a", "b", "c"))
    assert json.loads(json.dumps(result.to_dict()))["per_class"] == {"a": 1.0, "b": 1.0, "c": None}


def test_certainty_lands_in_the_last_bin() -> None:
    assert calibration_error(torch.tensor([1.0, 1.0]), torch.tensor([True, False])) == pytest.approx(0.5)
