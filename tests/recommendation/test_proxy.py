"""What features are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hybridvit.recommendation.proxy import linear_logits, majority, neighbour_logits, proxy
from hybridvit.recommendation.sample import Sample
from hybridvit.transfer.data import ImageSet
from tests.transfer.samples import image_set

CLASSES = ("a", "b", "c")


def sample_of(images: ImageSet, folds: int = 4) -> Sample:
    every = np.arange(len(images))
    parts = tuple((every[every % folds != fold], every[every % folds == fold]) for fold in range(folds))
    return Sample(images, CLASSES, len(images), parts, "folds", ())


def features(labels: Tensor, noise: float, width: int = 12) -> Tensor:
    """(N, width): one direction a class, and noise of a spread that differs between directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(3, width, generator=generator)
    spread = torch.logspace(-1, 1, width)
    return (directions[labels] + noise * torch.randn(len(labels), width, generator=generator)) * spread


LABELS = torch.arange(240) % 3


def test_features_that_separate_the_classes_come_before_noise() -> None:
    images = sample_of(image_set(LABELS.numpy()))
    clear, vague, none = (proxy(features(LABELS, noise), images) for noise in (0.3, 2.0, 100.0))
    assert clear.linear.mean > 0.97
    assert clear.knn.mean > 0.9
    assert clear.linear.mean > vague.linear.mean + 0.1 > none.linear.mean + 0.2
    assert none.linear.mean < 0.5
    assert none.knn.mean < 0.5, "held-out images are not among the neighbours"
    assert majority(images) == pytest.approx(1 / 3)


def test_the_standard_error_is_that_of_the_share() -> None:
    score = proxy(features(LABELS, 2.0), sample_of(image_set(LABELS.numpy()))).linear
    assert score.standard_error == pytest.approx((score.mean * (1 - score.mean) / 240) ** 0.5, rel=0.05)
    perfect = proxy(features(LABELS, 0.01), sample_of(image_set(LABELS.numpy()))).linear
    assert perfect.mean == 1
    assert 0 < perfect.standard_error < 0.01, "they are not all the images there could be"


@pytest.mark.parametrize("width", [6, 300])
def test_the_penalty_is_that_of_the_least_error_on_what_is_left_out(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More images than features, and fewer: the errors on each image left out are those of leaving it out."""
    from hybridvit.recommendation import proxy as module

    labels = LABELS[:30]
    inputs, targets = features(labels, 1.0, width), torch.eye(3)[labels]
    inputs = (inputs - inputs.mean(0)) / inputs.std(0, correction=0)
    errors: dict[float, float] = {}
    for penalty in (1e-3, 1.0, 30.0):
        left_out = []
        for each in range(30):
            others = torch.arange(30) != each
            x, y = inputs[others].double(), targets[others].double()
            x0, y0 = x.mean(0), y.mean(0)
            gram = (x - x0).T @ (x - x0) + penalty * torch.eye(width, dtype=torch.float64)
            weights = torch.linalg.solve(gram, (x - x0).T @ (y - y0))
            left_out.append((targets[each] - y0 - (inputs[each] - x0) @ weights).square().sum())
        errors[penalty] = torch.stack(left_out).sum().item()
    left, values = module._principal(inputs.double())
    outputs = targets.double() - targets.double().mean(0)
    monkeypatch.setattr(module, "_PENALTIES", torch.tensor(list(errors), dtype=torch.float64) / values.mean())
    chosen = module._penalty(left, values, left.T @ outputs, outputs).item()
    assert chosen == pytest.approx(min(errors, key=lambda penalty: errors[penalty]))


@pytest.mark.parametrize("width", [8, 200])
def test_the_probe_is_the_solution_of_its_normal_equations(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridvit.recommendation import proxy as module

    labels, targets = LABELS[:50], torch.eye(3)[LABELS[:50]].double()
    inputs, queries = features(labels, 1.0, width), features(LABELS[50:60], 1.0, width)
    monkeypatch.setattr(module, "_penalty", lambda *_: torch.tensor(2.0))
    mean, scale = inputs.double().mean(0), inputs.double().std(0, correction=0)
    x = (inputs.double() - mean) / scale
    weights = torch.linalg.solve(x.T @ x + 2 * torch.eye(width), x.T @ (targets - targets.mean(0)))
    expected = (queries.double() - mean) / scale @ weights + targets.mean(0)
    torch.testing.assert_close(linear_logits(inputs, targets, queries, False).double(), expected, atol=1e-5, rtol=1e-5)


def test_constant_features_are_worth_as_much_as_the_commonest_class() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 30)[torch.randperm(120, generator=torch.manual_seed(0))]
    images = sample_of(image_set(labels.numpy()))
    constant = proxy(torch.ones(120, 5), images)
    assert constant.linear.mean == pytest.approx(majority(images)) == pytest.approx(0.5)
    partly = torch.cat([features(labels, 0.3), torch.full((120, 4), 7.0)], dim=1)
    assert proxy(partly, images).linear.mean > 0.95


def test_several_labels_an_image_are_scored_by_mean_average_precision() -> None:
    targets = torch.eye(3)[LABELS]
    targets[:, 1] = torch.maximum(targets[:, 0], targets[:, 1])  # who is of the first class is of the second too
    images = sample_of(image_set(targets.numpy()))
    clear, none = (proxy(features(LABELS, noise), images) for noise in (0.3, 100.0))
    assert clear.linear.mean > 0.97
    assert clear.knn.mean > 0.9
    assert none.linear.mean < 0.7
    assert 0.005 < none.linear.standard_error < 0.1
    assert 0.3 < majority(images) < 0.6


def test_neighbours_vote_as_those_of_fine_tuning() -> None:
    targets = torch.eye(3)[LABELS]
    inputs = features(LABELS, 0.1)
    assert torch.equal(neighbour_logits(inputs, targets, inputs, False).argmax(1), LABELS)
