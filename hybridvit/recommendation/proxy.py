"""What a model's features are worth for some labels, in seconds: nearest neighbours and a linear probe.

The probe is ridge regression onto the labels. It has one optimum, which is computed, and its only parameter is chosen
by the error on each image when that is left out, which costs nothing more: no rate, no epochs, no chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..transfer.baselines import majority_figure
from ..transfer.methods.knn import as_logits, neighbours_of, one_hot, votes
from ..transfer.metrics import Evaluation
from ..transfer.multilabel import evaluation_of

if TYPE_CHECKING:
    from .sample import Sample

_PENALTIES = torch.logspace(-5, 3, 17, dtype=torch.float64)  # of the mean variance along a direction of the features
_RESAMPLES = 200  # of the images, for the error of a figure that is no mean over them


@dataclass(frozen=True)
class Score:
    """A figure in 0..1 on held-out images, and its standard error for the choice of these images."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class Proxy:
    """What frozen features reach: accuracy, or mean average precision where images have several labels."""

    linear: Score
    knn: Score


def proxy(features: Tensor, sample: Sample) -> Proxy:
    """features: (N, D) of the sample's images."""
    return Proxy(_score(linear_logits, features, sample), _score(neighbour_logits, features, sample))


def majority(sample: Sample) -> float:
    """The same figure of always naming the commonest class."""
    labels = torch.from_numpy(sample.images.labels)
    fitted = torch.from_numpy(np.unique(np.concatenate([fitted for fitted, _ in sample.parts])))
    return majority_figure(labels[fitted], labels[torch.from_numpy(sample.held_out)], sample.classes)


def neighbour_logits(features: Tensor, targets: Tensor, queries: Tensor, multi_label: bool) -> Tensor:
    """(Q, classes) logits of queries (Q, D), by the votes of features (N, D) with targets (N, classes)."""
    return as_logits(votes(queries, features, targets, neighbours_of(len(features))), multi_label)


def linear_logits(features: Tensor, targets: Tensor, queries: Tensor, multi_label: bool) -> Tensor:
    """The same by ridge regression onto the targets."""
    mean, spread = features.double().mean(0), features.double().std(0, correction=0)
    scale = torch.where(spread > 1e-6 * spread.max().clamp_min(1e-30), spread, math.inf)  # a constant tells nothing
    inputs, offset = (features.double() - mean) / scale, targets.double().mean(0)
    outputs = targets.double() - offset
    left, values = _principal(inputs)
    projected = left.T @ outputs
    coefficients = projected / (values + _penalty(left, values, projected, outputs)).unsqueeze(1)
    return ((queries.double() - mean) / scale @ (inputs.T @ (left @ coefficients)) + offset).float()


def _principal(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors (N, R) and squared singular values (R,), by the smaller of the two products."""
    count, width = inputs.shape
    values, vectors = torch.linalg.eigh(inputs @ inputs.T if count <= width else inputs.T @ inputs)
    kept = values > 1e-10 * values[-1].clamp_min(1e-30)
    values, vectors = values[kept], vectors[:, kept]
    return (vectors if count <= width else inputs @ vectors / values.sqrt()), values


def _penalty(left: Tensor, values: Tensor, projected: Tensor, outputs: Tensor) -> Tensor:
    """The penalty with the least squared error on each image when that is left out."""
    if not len(values):  # features that are all the same
        return torch.ones(())
    errors: list[Tensor] = []
    penalties = _PENALTIES * values.mean()
    for penalty in penalties:
        shrunk = values / (values + penalty)
        leverage = (left.square() @ shrunk + 1 / len(left)).clamp_max(1 - 1e-9)
        residual = outputs - left @ (shrunk.unsqueeze(1) * projected)
        errors.append((residual / (1 - leverage).unsqueeze(1)).square().sum())
    return penalties[torch.stack(errors).argmin()]


def _score(logits_of: Callable[[Tensor, Tensor, Tensor, bool], Tensor], features: Tensor, sample: Sample) -> Score:
    labels, multi_label = torch.from_numpy(sample.images.labels), sample.images.multi_label
    targets = one_hot(labels, len(sample.classes))
    parts = [tuple(map(torch.from_numpy, part)) for part in sample.parts]
    logits = torch.cat([logits_of(features[fit], targets[fit], features[out], multi_label) for fit, out in parts])
    return _scored(logits, labels[torch.from_numpy(sample.held_out)], sample.classes)


def _scored(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Score:
    evaluation = evaluation_of(logits, labels, classes)
    count = len(labels)
    if isinstance(evaluation, Evaluation):
        # One more right and one more wrong: even if all are right, they are not all the images there could be.
        share = (evaluation.figure * count + 1) / (count + 2)
        return Score(evaluation.figure, math.sqrt(share * (1 - share) / count))
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randint(count, (count,), generator=generator) for _ in range(_RESAMPLES)]
    figures = [evaluation_of(logits[drawn], labels[drawn], classes).figure for drawn in draws]
    return Score(evaluation.figure, float(np.std(figures)))
