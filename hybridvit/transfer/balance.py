"""Classes of unequal size: how unequal, weights for a loss, and probabilities to draw images by.

Labels are (N,) class numbers, or targets (N, classes) of 0 and 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOST_UNEQUAL = 10.0  # ratio of the largest class to the smallest from which on it is worth a note
LARGEST_RATIO = 10.0  # of two classes' weights, lest a few images decide


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """(classes,) how many images have each label."""
    return labels.sum(dim=0) if labels.ndim == 2 else torch.bincount(labels, minlength=classes)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,) inverse frequencies, at most tenfold the smallest, whose mean over the images is 1."""
    counts = class_counts(labels, classes).float()
    inverse = 1 / counts.clamp_min(1)
    capped = inverse.clamp_max(LARGEST_RATIO * inverse.min())
    return capped * counts.sum() / (counts * capped).sum()


def positive_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,) what a yes weighs against a no: as many times as there are more of the latter, at most tenfold."""
    counts = class_counts(labels, classes).float()
    return ((len(labels) - counts) / counts.clamp_min(1)).clamp(1, LARGEST_RATIO)


def sampling_probabilities(labels: np.ndarray) -> np.ndarray:
    """(N,) by which each class is drawn equally often. Of several labels the rarest counts, of none the commonest."""
    counts = np.maximum(np.bincount(labels) if labels.ndim == 1 else labels.sum(axis=0), 1).astype(np.float64)
    rarest = 1 / counts[labels] if labels.ndim == 1 else np.maximum((labels / counts).max(axis=1), 1 / counts.max())
    return rarest / rarest.sum()


def imbalance_note(labels: Tensor, names: tuple[str, ...]) -> str | None:
    """What to say about classes of very unequal size."""
    counts = class_counts(labels, len(names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] <= MOST_UNEQUAL * counts[least].clamp_min(1):
        return None
    return (
        f"classes are unequal: {names[most]!r} has {int(counts[most])} training images, {names[least]!r} "
        f"{int(counts[least])}; balance=weights or balance=sampling may help the small ones"
    )
