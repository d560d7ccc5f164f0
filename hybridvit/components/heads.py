"""Classifiers."""

import torch
from torch import Tensor, nn

from ..spec import Head, Norm, module_of
from .activations import linear


class LinearHead(Head):
    """One linear layer."""

    bias: bool = True

    def build(self, dim: int, num_classes: int) -> nn.Module:
        return linear(dim, num_classes, self.bias)


class DistilledHead(Head):
    """One linear layer a prefix token, class and distillation (arXiv 2012.12877), and the mean of their logits.

    Its input is the two tokens side by side, as `TokenPool(tokens=2)` gives them.
    """


@module_of(DistilledHead)
class DistilledHeadModule(nn.Module):
    def __init__(self, spec: DistilledHead, dim: int, num_classes: int) -> None:
        super().__init__()
        self.class_token, self.distillation_token = (linear(dim // 2, num_classes) for _ in range(2))

    def forward(self, embedding: Tensor) -> Tensor:
        from_class, from_distillation = embedding.chunk(2, dim=-1)
        return (self.class_token(from_class) + self.distillation_token(from_distillation)) / 2


class NormedHead(Head):
    """A norm and a linear layer; with a `count`, the mean of so many of these (arXiv 2104.01136)."""

    norm: Norm | None = None
    count: int = 1


@module_of(NormedHead)
class NormedHeadModule(nn.Module):
    def __init__(self, spec: NormedHead, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(spec.norm.build(dim) if spec.norm else nn.Identity() for _ in range(spec.count))
        self.linears = nn.ModuleList(linear(dim, num_classes) for _ in range(spec.count))

    def forward(self, embedding: Tensor) -> Tensor:
        tokens = embedding.unsqueeze(1)
        logits = [layer(norm(tokens)) for norm, layer in zip(self.norms, self.linears, strict=True)]
        return torch.cat(logits, dim=1).mean(dim=1)
