"""Classifiers."""

from __future__ import annotations

from torch import Tensor, nn

from ..spec import Head
from .activations import linear


class LinearHead(Head):
    """One linear layer; without classes, none: the model then gives its embedding."""

    def build(self, dim: int, num_classes: int) -> nn.Module:
        return linear(dim, num_classes) if num_classes else nn.Identity()


class DistilledHead(Head):
    """One linear layer a prefix token, class and distillation (arXiv 2012.12877), and the mean of their logits.

    Its input is the two tokens side by side, as `TokenPool(tokens=2)` gives them.
    """

    def build(self, dim: int, num_classes: int) -> nn.Module:
        return DistilledHeadModule(dim, num_classes) if num_classes else nn.Identity()


class DistilledHeadModule(nn.Module):
    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.class_token = linear(dim // 2, num_classes)
        self.distillation_token = linear(dim // 2, num_classes)

    def forward(self, embedding: Tensor) -> Tensor:
        from_class, from_distillation = embedding.chunk(2, dim=-1)
        return (self.class_token(from_class) + self.distillation_token(from_distillation)) / 2
