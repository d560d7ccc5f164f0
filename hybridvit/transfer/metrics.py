"""Figures of merit from logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_BINS = 15


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model does on a labelled image set.

    Attributes:
        top1: share in 0..1 of the images whose most likely label is right.
        top5: the same for the five most likely labels, or for all if there are fewer.
        loss: mean cross-entropy.
        ece: expected calibration error, 15 bins of equal width (arXiv 1706.04599).
        per_class: share of each class's images that are recognised (recall); NaN for a class without images.
        confusion: (classes, classes) counts, a row a true class, a column a predicted one.
        labels: (N,) true classes.
        predictions: (N,) most likely classes.
        confidence: (N,) probabilities of the predictions.
    """

    classes: tuple[str, ...]
    count: int
    top1: float
    top5: float
    loss: float
    ece: float
    per_class: tuple[float, ...]
    confusion: Tensor
    labels: Tensor
    predictions: Tensor
    confidence: Tensor

    figure_name, class_figure = "accuracy", "recognised"

    @property
    def figure(self) -> float:
        """By which epochs are compared."""
        return self.top1

    @property
    def class_counts(self) -> list[int]:
        """How many images each class has."""
        return self.confusion.sum(dim=1).tolist()

    @property
    def summary(self) -> str:
        """All figures in one line."""
        return f"top-1 {self.top1:.2%}  top-5 {self.top5:.2%}  loss {self.loss:.4f}  ECE {self.ece:.4f}"

    @property
    def precision(self) -> tuple[float, ...]:
        """Share of the images predicted as each class that are of it; NaN for a class that is never predicted."""
        return tuple((self.confusion.diagonal() / self.confusion.sum(dim=0)).tolist())

    def to_dict(self) -> dict[str, object]:
        """JSON data: the figures without the tensors of single images."""
        return {
            "count": self.count,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "ece": self.ece,
            "per_class": by_name(self.classes, self.per_class),
            "precision": by_name(self.classes, self.precision),
            "confusion": self.confusion.tolist(),
        }


def by_name(classes: tuple[str, ...], shares: tuple[float, ...]) -> dict[str, float | None]:
    """JSON data: shares by the names of their classes, null for NaN."""
    return {name: None if share != share else share for name, share in zip(classes, shares, strict=True)}


def score(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Evaluation:
    """logits: (N, classes); labels: (N,)."""
    logits, labels = logits.float().cpu(), labels.cpu()
    probabilities = logits.softmax(dim=1)
    confidence, predictions = probabilities.max(dim=1)
    correct = predictions == labels
    in_top5 = (logits.topk(min(5, len(classes)), dim=1).indices == labels[:, None]).any(dim=1)
    pairs = torch.bincount(labels * len(classes) + predictions, minlength=len(classes) ** 2)
    confusion = pairs.reshape(len(classes), len(classes))
    return Evaluation(
        classes=classes,
        count=len(labels),
        top1=_mean(correct),
        top5=_mean(in_top5),
        loss=F.cross_entropy(logits, labels).item(),
        ece=calibration_error(confidence, correct),
        per_class=tuple((confusion.diagonal() / confusion.sum(dim=1)).tolist()),
        confusion=confusion,
        labels=labels,
        predictions=predictions,
        confidence=confidence,
    )


def _mean(hits: Tensor) -> float:
    return hits.double().mean().item()


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighted by their size."""
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    gaps = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, confidence.double() - correct.double())
    return (gaps.abs().sum() / len(confidence)).item()
