"""Nearest neighbours among frozen features: a figure to compare with, without any training."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Method, record_result

if TYPE_CHECKING:
    from ...encoder import Encoder
    from ..trainer import Trainer

_SHARPNESS = 1 / 0.07  # of the votes' weights, exp(similarity * sharpness), as is customary (arXiv 1805.01978)
_SMALLEST = 1e-6  # share, whose logarithm is finite


def neighbours_of(count: int) -> int:
    """How many neighbours vote among that many images: the square root of their number, 20 at most."""
    return min(20, round(math.sqrt(count)))


def votes(queries: Tensor, features: Tensor, targets: Tensor, k: int) -> Tensor:
    """Shares (B, classes) of the votes of the k nearest features, by cosine similarity and weighted by it.

    queries: (B, D); features: (N, D); targets: (N, classes) of 0 and 1, the labels of the features.
    """
    similarity = F.normalize(queries.float(), dim=1) @ F.normalize(features.float(), dim=1).T
    nearest = similarity.topk(min(k, len(features)), dim=1)
    weights = (nearest.values * _SHARPNESS).softmax(dim=1)
    return (weights.unsqueeze(2) * targets.float()[nearest.indices]).sum(dim=1)


def as_logits(shares: Tensor, multi_label: bool) -> Tensor:
    """Logits (B, classes) of shares of votes, of which they are the softmax, or the sigmoid where there are several."""
    return shares.logit(_SMALLEST) if multi_label else shares.clamp_min(_SMALLEST).log()


class KnnClassifier(nn.Module):
    """A model's embedding with a vote of its neighbours behind it: images -> logits (B, classes).

    Their softmax is the shares of the votes; if the labels are targets (N, classes), their sigmoid is.
    """

    def __init__(self, model: Encoder, features: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__()
        self.model, self.features = model, features
        self.targets = one_hot(labels, classes).to(features.device)
        self.multi_label = labels.ndim == 2
        self.k = neighbours_of(len(features))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.model.embed(images))

    def logits(self, embedding: Tensor) -> Tensor:
        """The same for embeddings (B, D)."""
        return as_logits(votes(embedding, self.features, self.targets, self.k), self.multi_label)


class NearestNeighbours(Method):
    """Scores a vote of neighbours among the training images."""

    saves_model = False

    def fit(self, trainer: Trainer, resume: bool) -> None:
        started = time.monotonic()
        labels = torch.from_numpy(trainer.data.train.labels)
        features = trainer.features(trainer.data.train, "train")
        classifier = KnnClassifier(trainer.model, features, labels, len(trainer.data.classes))
        trainer.use(classifier)  # pyright: ignore[reportArgumentType]  (it answers images, and no more is asked)
        record_result(trainer, started)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Targets (N, classes) of labels (N,), or labels that are such already."""
    return labels if labels.ndim == 2 else F.one_hot(labels, classes)
