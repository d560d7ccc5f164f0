"""Scale and shift (arXiv 2210.08823): a factor for each channel of each layer, and the biases.

A layer's scaled output is that of a layer with scaled weights, so the factors are parametrizations of the weights:
whoever reads a weight sees it scaled, and nothing has to be merged but to forget how it was made. For norms, the
factor is their weight.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .base import Method

if TYPE_CHECKING:
    from ...encoder import Encoder
    from ..recipe import Recipe


class Scaled(nn.Module):
    """A weight (D, ...) times a factor for each of its D outputs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(len(weight), *[1] * (weight.ndim - 1), device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor


class ScaleAndShift(Method):
    """Trains norms, biases, a factor for each output of linear layers and convolutions, and the classifier."""

    def prepare(self, model: Encoder, recipe: Recipe) -> None:
        model.freeze(recipe.freeze)
        matrices = [
            module
            for stage in model.stages
            for module in stage.modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad
        ]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and (parameter.ndim == 1 or name.startswith("head.")))
        for module in matrices:
            parametrize.register_parametrization(module, "weight", Scaled(module.weight))

    def merged(self, model: Encoder) -> Encoder:
        plain = copy.deepcopy(model)
        for module in list(plain.modules()):
            if parametrize.is_parametrized(module, "weight"):
                _settle(module)
        return plain


def _settle(module: nn.Module) -> None:
    """Make a scaled weight an ordinary one.

    Not by `remove_parametrizations`: it changes the class, which a copy shares with what it is a copy of.
    """
    weight = nn.Parameter(module.weight.detach().clone())  # pyright: ignore[reportCallIssue]
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    module.weight = weight
