"""The classifier that is fitted to features."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridvit.components.heads import DistilledHead, LinearHead, NormedHead
from hybridvit.components.norms import BatchNorm
from hybridvit.spec import Head
from hybridvit.transfer.errors import TrainingError
from hybridvit.transfer.probe import fit_head
from hybridvit.transfer.recipe import Recipe

CLASSES, WIDTH, COUNT = 3, 8, 60
RECIPE = Recipe(method="probe", probe_epochs=200, probe_decay=5.0)


def with_head(head: Head) -> Any:
    """What `fit_head` needs of a model."""
    torch.manual_seed(0)
    made = head.build(WIDTH, CLASSES)
    return SimpleNamespace(head=made, forward_head=made)


def images() -> tuple[Tensor, Tensor]:
    """Features of very different sizes, of which the labels depend on small ones, and one that never changes."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(COUNT, WIDTH, generator=generator)
    labels = features[:, :CLASSES].argmax(dim=1)
    features = features * torch.logspace(-2, 2, WIDTH) + 7
    features[:, -1] = 3.0
    return features, labels


def accuracy(model: Any, features: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (model.forward_head(features).argmax(dim=1) == labels).float().mean().item()


def test_minimises_the_loss_and_the_penalty_of_standardised_features() -> None:
    """The gradient is zero there, by hand."""
    model, (features, labels) = with_head(LinearHead()), images()
    fit_head(model, features, labels, RECIPE, F.cross_entropy)
    scale, centre = torch.std_mean(features, dim=0, correction=0)
    scale = scale.clamp_min(0.01 * scale.mean())
    weight = (model.head.weight * scale).detach().requires_grad_()
    bias = (model.head.bias + model.head.weight @ centre).detach().requires_grad_()
    loss = F.cross_entropy((features - centre) / scale @ weight.T + bias, labels, reduction="sum")
    (loss + RECIPE.probe_decay / 2 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(weight.grad.abs().max().item(), bias.grad.abs().max().item()) < 0.02 * COUNT / CLASSES


def test_a_feature_that_never_changes_is_not_blown_up() -> None:
    model, (features, labels) = with_head(LinearHead()), images()
    fit_head(model, features, labels, RECIPE, F.cross_entropy)
    before = accuracy(model, features, labels)
    features[:, -1] += 0.1
    assert accuracy(model, features, labels) == before
    assert model.head.weight.abs().max() < 1e3


@pytest.mark.parametrize(
    "head", [LinearHead(), LinearHead(bias=False), DistilledHead(), NormedHead(norm=BatchNorm()), NormedHead(count=2)]
)
def test_every_head_learns(head: Head) -> None:
    model, (features, labels) = with_head(head), images()
    features = (features - features.mean(dim=0)) / features.std(dim=0).clamp_min(1e-3)
    fit_head(model, features, labels, RECIPE.replace(probe_decay=0.1), F.cross_entropy)
    assert accuracy(model, features, labels) > 0.9
    assert not model.head.training


def test_depends_on_nothing_but_the_images_and_the_seed() -> None:
    one, (features, labels) = with_head(LinearHead()), images()
    other = copy.deepcopy(one)
    other.forward_head = other.head
    nn.init.normal_(other.head.weight)
    for model in (one, other):
        torch.randn(3)
        fit_head(model, features, labels, RECIPE, F.cross_entropy)
    assert torch.allclose(one.head.weight, other.head.weight, atol=1e-5)


def test_several_labels() -> None:
    model, (features, labels) = with_head(LinearHead()), images()
    targets = F.one_hot(labels, CLASSES).float()
    fit_head(model, features, targets, RECIPE.replace(probe_decay=0.1), F.binary_cross_entropy_with_logits)
    assert accuracy(model, features, labels) > 0.8


def test_features_that_are_not_finite_are_refused() -> None:
    model, (features, labels) = with_head(LinearHead()), images()
    features[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="features that are infinite or NaN"):
        fit_head(model, features, labels, RECIPE, F.cross_entropy)
