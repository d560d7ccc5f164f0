"""Figures for several labels an image, against torchmetrics."""

import json
import math

import numpy as np
import pytest
import torch

import hybridvit as hv
from hybridvit.transfer.data import Data
from hybridvit.transfer.metrics import Evaluation, score
from hybridvit.transfer.multilabel import MultiLabelEvaluation, average_precision, evaluation_of, score_multi_label
from hybridvit.transfer.transforms import default_preprocess
from tests.transfer.samples import tiny, with_several_labels

NAMES = tuple("abcde")


def test_against_torchmetrics() -> None:
    from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

    logits = torch.randn(200, 5).mul(2).round(decimals=1)  # with equal scores
    targets = (torch.rand(200, 5) < torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])).float()
    found = score_multi_label(logits, targets, NAMES)
    reference = multilabel_average_precision(logits.sigmoid(), targets.int(), 5, average="none")
    assert found.per_class == pytest.approx(reference.tolist(), abs=1e-6)
    assert found.mean_average_precision == found.figure == pytest.approx(reference.mean().item(), abs=1e-6)
    for average, value in (("macro", found.macro_f1), ("micro", found.micro_f1)):
        expected = multilabel_f1_score(logits.sigmoid(), targets.int(), 5, average=average)  # pyright: ignore[reportArgumentType]
        assert value == pytest.approx(expected.item(), abs=1e-6)


def test_a_label_that_no_image_has_is_null_and_not_counted() -> None:
    targets = torch.tensor([[1.0, 0], [0, 0]])
    found = score_multi_label(torch.tensor([[1.0, 0], [0, 1]]), targets, ("a", "b"))
    assert math.isnan(found.per_class[1])
    assert found.mean_average_precision == 1.0
    assert json.loads(json.dumps(found.to_dict()))["per_class"] == {"a": 1.0, "b": None}


def test_equal_scores_are_one_threshold() -> None:
    assert average_precision(np.zeros(4), np.array([True, False, False, True])) == 0.5


def test_labels_decide_which_figures() -> None:
    logits = torch.randn(4, 5)
    assert isinstance(evaluation_of(logits, torch.zeros(4, dtype=torch.int64), NAMES), Evaluation)
    assert isinstance(evaluation_of(logits, torch.ones(4, 5), NAMES), MultiLabelEvaluation)


def test_precision_and_recall_of_each_class() -> None:
    found = score(torch.tensor([[3.0, 0, 0], [3, 0, 0], [0, 3, 0]]), torch.tensor([0, 1, 1]), ("a", "b", "c"))
    assert found.precision[:2] == (0.5, 1.0)
    assert found.to_dict()["precision"] == {"a": 0.5, "b": 1.0, "c": None}
    assert found.per_class[:2] == (1.0, 0.5)


def test_a_saved_model_is_evaluated_by_its_own_labels(monkeypatch: pytest.MonkeyPatch, rows: Data) -> None:
    several = with_several_labels(rows)
    model = tiny()
    model.labels, model.preprocess = ("2", "0", "1"), default_preprocess((16, 16), 1)
    loaded = (rows.classes, several.val, ())
    monkeypatch.setattr("hybridvit.transfer.evaluation.load_split", lambda *given, **options: loaded)
    found = hv.evaluate(model, "somewhere")
    assert isinstance(found, MultiLabelEvaluation)
    counts = several.val.labels.sum(axis=0).astype(int).tolist()
    assert found.class_counts == [counts[2], counts[0], counts[1]]
    assert found.summary.startswith(f"mAP {found.figure:.2%}")
