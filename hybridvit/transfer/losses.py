"""What training minimises: for one label an image or several, with classes weighted, and with a teacher's opinion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .balance import class_weights, positive_weights
from .errors import RecipeError

if TYPE_CHECKING:
    from .distillation import Teacher
    from .recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]

_FOCUS = 4.0  # power by which the asymmetric loss plays down easy negatives
_MARGIN = 0.05  # probability below which a negative no longer counts


class Criterion:
    """The loss of a step. `labels` alone compares logits (B, classes) with labels (B,) or targets (B, classes)."""

    def __init__(self, labels: Loss, teacher: Teacher | None = None) -> None:
        self.labels, self.teacher = labels, teacher

    def __call__(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        loss = self.labels(logits, targets)
        return loss if self.teacher is None else self.teacher.mixed(loss, logits, images)


def label_loss(recipe: Recipe, labels: Tensor, classes: int, device: torch.device) -> Loss:
    """The recipe's loss for training images with those labels: (N,), or targets (N, classes) of 0 and 1.

    device: where the loss will be computed.

    Raises RecipeError for a loss that does not fit the labels.
    """
    multi_label = labels.ndim == 2
    name = recipe.loss if recipe.loss != "auto" else "bce" if multi_label else "ce"
    weighted = recipe.balance == "weights"
    if name == "ce":
        if multi_label:
            raise RecipeError("loss ce is for one label an image, and this data has several; use bce or asymmetric")
        return _cross_entropy(recipe.label_smoothing, class_weights(labels, classes).to(device) if weighted else None)
    if name == "asymmetric":
        return _with_targets(asymmetric, classes, 0.0, multi_label)
    weights = positive_weights(labels, classes).to(device) if weighted else None
    return _with_targets(_binary_cross_entropy(weights), classes, recipe.label_smoothing, multi_label)


def _cross_entropy(smoothing: float, weights: Tensor | None) -> Loss:
    if weights is None:
        return lambda logits, targets: F.cross_entropy(logits, targets, label_smoothing=smoothing)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        # Not torch's weighted mean, which would depend on how a batch is dealt out to processes.
        each = F.cross_entropy(logits, targets, weights, label_smoothing=smoothing, reduction="none")
        return each.mean()

    return loss


def _binary_cross_entropy(weights: Tensor | None) -> Loss:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)

    return loss


def _with_targets(loss: Loss, classes: int, smoothing: float, multi_label: bool) -> Loss:
    """A loss of targets (B, classes) as one of labels (B,) too, smoothed: over all classes, or over yes and no."""

    def of_labels(logits: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim == 1:
            targets = F.one_hot(targets, classes)
        return loss(logits, targets.to(logits.dtype) * (1 - smoothing) + smoothing / (2 if multi_label else classes))

    return of_labels


def asymmetric(logits: Tensor, targets: Tensor) -> Tensor:
    """Asymmetric loss (arXiv 2009.14119): cross-entropy of each label in which easy negatives hardly count."""
    negative = (torch.sigmoid(logits) - _MARGIN).clamp_min(0)
    of_positives = targets * F.logsigmoid(logits)
    of_negatives = (1 - targets) * negative**_FOCUS * torch.log1p(-negative)
    return -(of_positives + of_negatives).mean()


def hits(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    """(B,) how right each image's answer is: 1 or 0, or with several labels the share of yes and no that is right."""
    if multi_label:
        return ((logits > 0) == (targets > 0.5)).double().mean(dim=1)
    hard = targets if targets.ndim == 1 else targets.argmax(dim=1)
    return logits.argmax(dim=1) == hard
