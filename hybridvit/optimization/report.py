"""What folding did, in words."""

from __future__ import annotations

from torch import nn

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
