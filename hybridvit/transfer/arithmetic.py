"""The arithmetic of a batch, in torch, on the model's device: pixels are shifted, flipped, normalised and erased.

What is random follows from numbers that are given: (B, DRAWS) uniform ones, a row an image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from ..preprocess import Preprocess

if TYPE_CHECKING:
    from .recipe import Recipe

SHIFT_SHARE = 8  # a gentle shift is at most 1/8 of the side, 4 pixels of 32 as is customary for CIFAR
DRAWS = 7  # uniform numbers a sample that Augment consumes

_ERASED_AREA = (0.02, 1 / 3)
_LARGEST_ASPECT = 1 / 0.3


class Normalise(nn.Module):
    """uint8 (..., C, H, W) -> float32, (pixel / 255 - mean) / std; floats are in 0..1 already."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.mean, self.std = list(preprocess.mean), list(preprocess.std)

    def forward(self, pixels: Tensor) -> Tensor:
        values = F.to_dtype(pixels, torch.float32, scale=True)
        if values.ndim == 3 or not values.is_contiguous(memory_format=torch.channels_last):
            return F.normalize(values, self.mean, self.std, inplace=True)
        # Row by row of pixels: in this layout, vectors of three channels would be all that torch could vectorise.
        rows = values.permute(0, 2, 3, 1).flatten(0, 1).flatten(1)
        mean, std = (torch.tensor(each, device=rows.device).repeat(values.shape[3]) for each in (self.mean, self.std))
        rows.sub_(mean).div_(std)
        return values


class Augment(nn.Module):
    """Shift and flip of uint8 images (B, C, H, W), or of one (C, H, W), in one gather.

    What is shifted in from outside repeats the edge. draws: (B, DRAWS) uniform numbers that decide everything.
    """

    def __init__(self, shift: bool, flip: float) -> None:
        super().__init__()
        self.shift, self.flip = shift, flip

    @classmethod
    def of(cls, recipe: Recipe) -> Augment:
        return cls(shift=recipe.augment == "gentle", flip=0.0 if recipe.augment == "none" else recipe.flip)

    def forward(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        if images.ndim == 3:
            return self(images[None], draws)[0]
        if not (self.shift or self.flip):
            return images
        if draws is None:
            draws = torch.rand(len(images), DRAWS)
        draws = draws.to(images.device)
        if not self.shift:
            return torch.where((draws[:, 2] < self.flip)[:, None, None, None], images.flip(3), images)
        height, width = images.shape[-2:]
        rows = torch.arange(height, device=images.device).expand(len(images), -1)
        columns = torch.arange(width, device=images.device).expand(len(images), -1)
        rows = (rows + _offsets(draws[:, 0], height)).clamp(0, height - 1)
        columns = (columns + _offsets(draws[:, 1], width)).clamp(0, width - 1)
        if self.flip:
            columns = torch.where(draws[:, 2:3] < self.flip, columns.flip(1), columns)
        batch = torch.arange(len(images), device=images.device)[:, None, None]
        # The gather yields (B, H, W, C), which is the channels_last memory of the map.
        gathered = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
        return gathered.permute(0, 3, 1, 2)


def _offsets(draws: Tensor, side: int) -> Tensor:
    """(B,) uniform numbers -> (B, 1) whole offsets within an eighth of the side."""
    reach = max(1, side // SHIFT_SHARE)
    return (draws * (2 * reach + 1)).floor().long()[:, None] - reach


class Erase(nn.Module):
    """Random erasing (arXiv 1708.04896) of normalised images (B, C, H, W), or of one: a rectangle becomes the mean."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.probability = recipe.erasing

    def forward(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        if images.ndim == 3:
            return self(images[None], draws)[0]
        if not self.probability:
            return images
        if draws is None:
            draws = torch.rand(len(images), DRAWS)
        chance, area, aspect, vertical = draws.to(images.device)[:, 3:7].T
        height, width = images.shape[-2:]
        low, high = _ERASED_AREA
        area = (low + area * (high - low)) * height * width
        aspect = torch.exp((2 * aspect - 1) * math.log(_LARGEST_ASPECT))
        box_height = (area * aspect).sqrt().clamp(max=height)
        box_width = (area / aspect).sqrt().clamp(max=width)
        top = vertical * (height - box_height)
        left = (chance / self.probability).clamp(max=1) * (width - box_width)  # uniform given that it happens
        rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        inside_rows = (rows >= top[:, None]) & (rows < (top + box_height)[:, None])
        inside_columns = (columns >= left[:, None]) & (columns < (left + box_width)[:, None])
        erased = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
        return images.masked_fill(erased & (chance < self.probability)[:, None, None, None], 0.0)
