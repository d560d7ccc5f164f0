"""Classes of unequal size."""

import dataclasses

import numpy as np
import pytest
import torch

from hybridvit.transfer.balance import class_weights, imbalance_note, positive_weights, sampling_probabilities
from hybridvit.transfer.data import Data
from hybridvit.transfer.loader import TrainBatches
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.transforms import default_preprocess


def test_weights_are_capped_and_average_to_one() -> None:
    labels = torch.cat([torch.zeros(1000, dtype=torch.int64), torch.ones(10, dtype=torch.int64)])
    weights = class_weights(labels, 2)
    assert (weights[1] / weights[0]).item() == pytest.approx(10)
    assert weights[labels].mean().item() == pytest.approx(1)
    targets = torch.tensor([[1.0, 0]] * 99 + [[0.0, 1]])
    assert positive_weights(targets, 2).tolist() == [1.0, 10.0]


def test_chances_are_equal_for_classes() -> None:
    chances = sampling_probabilities(np.array([0] * 8 + [1] * 2))
    assert chances[:8].sum() == pytest.approx(0.5)
    assert chances.sum() == pytest.approx(1)
    several = sampling_probabilities(np.array([[1, 1], [1, 0], [1, 0], [0, 0]], dtype=np.float32))
    assert several.tolist() == pytest.approx(np.array([3, 1, 1, 1]) / 6)


def test_a_balanced_epoch_depends_on_the_seed_and_the_epoch_alone(rows: Data) -> None:
    keep = np.concatenate([np.flatnonzero(rows.train.labels == 0), np.flatnonzero(rows.train.labels == 1)[:3]])
    images = dataclasses.replace(rows, train=rows.train.subset(keep)).train
    recipe = Recipe(balance="sampling", batch_size=len(images), augment="none")

    def drawn(epoch: int, **changes: object) -> list[int]:
        batches = TrainBatches(
            images, default_preprocess((16, 16), 1), recipe.replace(**changes), torch.device("cpu"), workers=0
        )
        return [label for _, labels in batches.epoch(epoch) for label in labels.tolist()]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1) != drawn(1, seed=1)
    assert 0.25 < np.mean([np.mean(drawn(epoch)) for epoch in range(20)]) < 0.75
    assert np.mean(drawn(0, balance="none")) < 0.15


def test_very_unequal_classes_are_told() -> None:
    labels = torch.tensor([0] * 50 + [1] * 4)
    assert "'cat' has 50 training images, 'dog' 4; balance=weights" in (imbalance_note(labels, ("cat", "dog")) or "")
    assert imbalance_note(torch.tensor([0] * 40 + [1] * 4), ("cat", "dog")) is None
