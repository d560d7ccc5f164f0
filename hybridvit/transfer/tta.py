"""Test-time augmentation: a model's answer averaged over views of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Views = Literal["none", "flip", "crops"]

_CROP = 7 / 8  # side of a crop


def averaged(model: Callable[[Tensor], Tensor], views: Views, multi_label: bool = False) -> Callable[[Tensor], Tensor]:
    """A function from images (B, C, H, W) to logits whose softmax is the mean of the softmax over the views.

    views: "flip" is the image and its mirror image, "crops" these, four corners and the centre of each. With several
    labels an image the sigmoid is averaged instead.
    """
    if views not in get_args(Views):
        raise ValueError(f"tta must be one of {', '.join(get_args(Views))}, got {views!r}")
    if views == "none":
        return model

    def mean(images: Tensor) -> Tensor:
        logits = torch.stack([model(view).float() for view in views_of(images, views)])
        if multi_label:
            return logits.sigmoid().mean(dim=0).logit(1e-6)
        return logits.log_softmax(dim=2).logsumexp(dim=0)

    return mean


def views_of(images: Tensor, views: Views) -> list[Tensor]:
    """Images (B, C, H, W) as each view has them, all of the same size."""
    if views == "none":
        return [images]
    both = [images, images.flip(3)]
    if views == "flip":
        return both
    return both + [crop for image in both for crop in _crops(image)]


def _crops(images: Tensor) -> list[Tensor]:
    """Four corners and the centre, enlarged to the size of the images."""
    size = images.shape[-2:]
    height, width = (round(side * _CROP) for side in size)
    bottom, right = size[0] - height, size[1] - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return [
        F.interpolate(images[..., top : top + height, left : left + width], size, mode="bilinear", antialias=True)
        for top, left in corners
    ]
