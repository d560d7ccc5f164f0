"""What folding did, in words, and what it changed, as a number."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..components.blocks import BranchModule
from ..components.convs import StdConv2d
from ..components.mixers import LayerScaleModule
from ..components.norms import BatchNormModule
from ..encoder import Encoder


def folded_away(before: Encoder, after: Encoder) -> list[str]:
    """One line for each kind of part that there are fewer of."""
    lines: list[str] = []
    for name, counts in _counts(before).items():
        left = _counts(after)[name]
        if left < counts:
            lines.append(f"{counts - left} of {counts} {name} folded into other layers")
    return lines


def _counts(model: nn.Module) -> dict[str, int]:
    parts = list(model.modules())
    scales = sum(isinstance(part, BranchModule) and part.layer_scale is not None for part in parts)
    return {
        "batch norms": sum(isinstance(part, BatchNormModule) for part in parts),
        "layer scales": scales + sum(isinstance(part, LayerScaleModule) for part in parts),
        "standardised kernels": sum(isinstance(part, StdConv2d) for part in parts),
        "convolutions": sum(isinstance(part, nn.Conv2d) for part in parts),
    }


def difference(one: Encoder, other: Encoder) -> float:
    """The largest difference between the outputs of two models, over how far those of the first lie apart.

    On four random patterns of the models' size, the same ones every time.
    """
    pattern = torch.randn(4, one.spec.in_chans, 5, 7, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(pattern, size=one.spec.img_size, mode="bilinear")
    with torch.inference_mode():
        expected, given = (each(images.to(next(each.parameters()))) for each in (one, other))
    return off_by(expected, given)


def off_by(expected: Tensor, given: Tensor) -> float:
    """The largest difference between outputs (B, ...), over how far the expected ones of different images lie apart."""
    expected, given = expected.double().cpu(), given.double().cpu()
    spread = (expected - expected.mean(dim=0)).abs().max().clamp(min=1e-30)
    return ((given - expected).abs().max() / spread).item()
