"""Figures of merit where an image has any number of labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from .metrics import Evaluation, by_name, score


@dataclass(frozen=True, eq=False)
class MultiLabelEvaluation:
    """How a model does on images with several labels each.

    Attributes:
        mean_average_precision: mean of `per_class` over the classes that occur.
        macro_f1: mean F1 of the classes, where a probability above 0.5 is a yes.
        micro_f1: F1 of all decisions together.
        loss: mean binary cross-entropy.
        per_class: average precision of each class; NaN for one that no image has.
        labels: (N, classes) of 0 and 1.
        probabilities: (N, classes).
    """

    classes: tuple[str, ...]
    count: int
    mean_average_precision: float
    macro_f1: float
    micro_f1: float
    loss: float
    per_class: tuple[float, ...]
    labels: Tensor
    probabilities: Tensor

    figure_name, class_figure = "mAP", "average precision"

    @property
    def figure(self) -> float:
        """By which epochs are compared."""
        return self.mean_average_precision

    @property
    def class_counts(self) -> list[int]:
        """How many images have each label."""
        return self.labels.sum(dim=0).long().tolist()

    @property
    def summary(self) -> str:
        """All figures in one line."""
        return (
            f"mAP {self.mean_average_precision:.2%}  macro F1 {self.macro_f1:.2%}  micro F1 {self.micro_f1:.2%}  "
            f"loss {self.loss:.4f}"
        )

    def to_dict(self) -> dict[str, object]:
        """JSON data: the figures without the tensors of single images."""
        return {
            "count": self.count,
            "mean_average_precision": self.mean_average_precision,
            "macro_f1": self.macro_f1,
            "micro_f1": self.micro_f1,
            "loss": self.loss,
            "per_class": by_name(self.classes, self.per_class),
        }


def score_multi_label(logits: Tensor, targets: Tensor, classes: tuple[str, ...]) -> MultiLabelEvaluation:
    """logits: (N, classes); targets: (N, classes) of 0 and 1."""
    logits, targets = logits.float().cpu(), targets.float().cpu()
    probabilities = logits.sigmoid()
    scores, truth = logits.numpy(), targets.numpy() > 0.5
    per_class = tuple(average_precision(scores[:, i], truth[:, i]) for i in range(len(classes)))
    said = scores > 0
    right, wrong, missed = (said & truth).sum(axis=0), (said & ~truth).sum(axis=0), (~said & truth).sum(axis=0)
    occurring = [share for share in per_class if share == share]
    return MultiLabelEvaluation(
        classes=classes,
        count=len(targets),
        mean_average_precision=float(np.mean(occurring)) if occurring else 0.0,
        macro_f1=float(_f1(right, wrong, missed).mean()),
        micro_f1=float(_f1(right.sum(), wrong.sum(), missed.sum())),
        loss=F.binary_cross_entropy_with_logits(logits, targets).item(),
        per_class=per_class,
        labels=targets,
        probabilities=probabilities,
    )


def evaluation_of(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Evaluation | MultiLabelEvaluation:
    """The figures that fit the labels: (N,) class numbers, or targets (N, classes) of 0 and 1."""
    return (score_multi_label if labels.ndim == 2 else score)(logits, labels, classes)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the steps of precision over recall, (N,) scores against (N,) bool; NaN if nothing is true."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores are one threshold
    precision, recall = found[ends] / (ends + 1), found[ends] / found[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _f1(right: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    return 2 * right / np.maximum(2 * right + wrong + missed, 1)
