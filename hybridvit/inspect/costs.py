"""Parameters and floating point operations, from the spec alone: nothing is allocated and nothing is computed."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..encoder import Model


def params(model: Model) -> int:
    """Number of learned values."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model.build().parameters())


def flops(model: Model, img_size: tuple[int, int] | None = None) -> int:
    """Operations of the matrix products, attention and convolutions of one image, a multiply-add counted as two.

    `img_size` is (height, width) in pixels, by default the one that the model is built for.
    """
    # On the meta device attention is counted as its two matrix products; a fused kernel may go uncounted.
    with torch.device("meta"):
        encoder = model.build().eval()
        image = torch.empty(1, model.in_chans, *(img_size or model.img_size))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(image)
    return counter.get_total_flops()
