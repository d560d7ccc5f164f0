"""What a model makes of images before its classifier, computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..encoder import Encoder


def embeddings(model: Encoder, batches: Iterable[Tensor]) -> Tensor:
    """(N, D) float32 embeddings of batches (B, C, H, W), in eval mode, without gradients."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model.embed(pixels).float() for pixels in batches])
