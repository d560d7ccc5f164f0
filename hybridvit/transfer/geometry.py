"""The geometry of one image: which part of it a model sees, at the model's size. From any image to uint8 pixels.

Images of several bands are float tensors (C, H, W) from the start, and stay such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as tv
from torchvision.transforms import InterpolationMode, v2

from ..preprocess import Preprocess
from .bands import centred, resized_bands
from .errors import RecipeError
from .images import to_input

if TYPE_CHECKING:
    from .recipe import Recipe


class EvalGeometry(nn.Module):
    """Image -> image of the input size, resized and cropped without chance.

    A Pillow image of any mode stays one; for models of neither 1 nor 3 channels the result is a tensor (C, H, W).
    """

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.resampling = Image.Resampling[preprocess.interpolation.upper()]

    def forward(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        image = to_input(image, self.preprocess.channels)
        return self._of_tensor(image) if isinstance(image, Tensor) else self._of_picture(image)

    def _of_tensor(self, bands: Tensor) -> Tensor:
        resized = resized_bands(bands, self._resized(bands.shape[-2], bands.shape[-1]), self.preprocess.interpolation)
        return centred(resized, self.preprocess.input_size, self.preprocess.mean)

    def _of_picture(self, image: Image.Image) -> Image.Image:
        height, width = self.preprocess.input_size
        resized_height, resized_width = self._resized(image.height, image.width)
        image = image.resize((resized_width, resized_height), self.resampling)
        if resized_height < height or resized_width < width:
            fill = tuple(round(255 * mean) for mean in self.preprocess.mean)
            padded = Image.new(image.mode, (max(width, resized_width), max(height, resized_height)), fill)
            padded.paste(image, ((padded.width - resized_width) // 2, (padded.height - resized_height) // 2))
            image = padded
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        target_height, target_width = self.preprocess.resize_to
        ratios = target_height / height, target_width / width
        # Sides are truncated or rounded as timm does, so that the same weights see the same pixels.
        if self.preprocess.crop_mode == "squash":
            return target_height, target_width
        if self.preprocess.crop_mode == "center" and target_height == target_width:
            return int(height * max(ratios) + 1e-6), int(width * max(ratios) + 1e-6)
        inverse = height / target_height, width / target_width
        ratio = max(inverse) if self.preprocess.crop_mode == "border" else min(inverse)
        return max(1, round(height / ratio)), max(1, round(width / ratio))


class ToInput(nn.Module):
    """Image -> what a model of so many channels takes, see `to_input`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        return to_input(image, self.channels)


class RandomResizedCrop(nn.Module):
    """Image -> image of `size` (height, width), of the same kind: a random part, resized with antialiasing.

    The part has a share of at least `scale` of the area and an aspect ratio of 3/4 to 4/3 (arXiv 1409.4842).
    """

    def __init__(self, size: tuple[int, int], scale: float, interpolation: str) -> None:
        super().__init__()
        self.size, self.scale, self.interpolation = size, scale, interpolation

    def forward(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        top, left, height, width = tv.RandomResizedCrop.get_params(image, [self.scale, 1.0], [3 / 4, 4 / 3])  # pyright: ignore[reportArgumentType]
        if isinstance(image, Tensor):
            return resized_bands(image[:, top : top + height, left : left + width], self.size, self.interpolation)
        part = image.crop((left, top, left + width, top + height))
        if self.interpolation not in ("bilinear", "bicubic"):  # which torch has not
            return part.resize((self.size[1], self.size[0]), Image.Resampling[self.interpolation.upper()])
        # torch's kernel for bytes gives Pillow's values to within one, in a third of the time.
        pixels = torch.from_numpy(np.array(part)).view(height, width, -1).permute(2, 0, 1)
        resized = nn.functional.interpolate(pixels[None], self.size, mode=self.interpolation, antialias=True)[0]
        return Image.fromarray((resized[0] if part.mode == "L" else resized.permute(1, 2, 0).contiguous()).numpy())


def train_geometry(preprocess: Preprocess, recipe: Recipe) -> nn.Module:
    """Image -> image of the input size, at random only where `random_geometry` says so."""
    if not random_geometry(recipe):
        return EvalGeometry(preprocess)
    if recipe.augment != "standard" and preprocess.channels not in (1, 3):
        raise RecipeError(
            f'augment "{recipe.augment}" is for grey and colour images, these have {preprocess.channels} channels; '
            'use "standard"'
        )
    steps: list[nn.Module] = [
        ToInput(preprocess.channels),
        RandomResizedCrop(preprocess.input_size, recipe.crop_scale, preprocess.interpolation),
    ]
    if recipe.augment == "trivial":
        steps.append(v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR))
    elif recipe.augment == "rand":
        steps.append(v2.RandAugment(interpolation=InterpolationMode.BILINEAR))
    return v2.Compose(steps)


def random_geometry(recipe: Recipe) -> bool:
    """Whether each epoch needs the original image anew, so that resized pixels cannot be kept in memory."""
    return recipe.augment in ("standard", "trivial", "rand")
