"""From an image to a model's input.

Two halves: the geometry of one image, to uint8 pixels (C, H, W); and the arithmetic of a batch, in torch, on the
model's device. Training, evaluation and prediction share the second half, and the last two share both. Images of
several bands are float tensors (C, H, W) from the start, and go the same way.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as tv
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from ..preprocess import Preprocess
from .bands import centred, resized_bands
from .errors import RecipeError
from .images import to_input

if TYPE_CHECKING:
    from ..encoder import Encoder
    from .recipe import Recipe

SHIFT_SHARE = 8  # a gentle shift is at most 1/8 of the side, 4 pixels of 32 as is customary for CIFAR
DRAWS = 7  # uniform numbers a sample that Augment consumes

_ERASED_AREA = (0.02, 1 / 3)
_LARGEST_ASPECT = 1 / 0.3


class PreprocessWarning(UserWarning):
    """Images are prepared in another way than the weights were trained with."""


class Transform(v2.Compose):
    """Steps from a Pillow image to a model's input, and the preprocessing that they do.

    `train_time` says that they augment.
    """

    def __init__(self, preprocess: Preprocess, steps: Sequence[nn.Module], train: bool) -> None:
        super().__init__(steps)
        self.preprocess, self.train_time = preprocess, train


def transforms(model: Encoder | Preprocess, train: bool = False, recipe: Recipe | None = None) -> Transform:
    """Pillow image -> normalised float tensor (C, H, W), as the weights of the model expect it.

    For a model of neither 1 nor 3 channels also a float tensor of its bands, in 0..1.

    With train=True the recipe's augmentation is applied (its defaults without one); its random numbers come from
    torch's global generator.
    """
    preprocess = model if isinstance(model, Preprocess) else preprocess_of(model)
    if not train:
        return Transform(preprocess, [EvalGeometry(preprocess), v2.PILToTensor(), Normalise(preprocess)], train)
    from .recipe import Recipe

    recipe = recipe or Recipe()
    steps = [train_geometry(preprocess, recipe), v2.PILToTensor(), Augment.of(recipe)]
    return Transform(preprocess, [*steps, Normalise(preprocess), Erase(recipe)], train)


def warn_of_mismatch(model: Encoder, transform: Callable[..., Any]) -> None:
    """Warns if a transform, ours or one made of torchvision's, prepares images otherwise than the weights expect."""
    if model.preprocess is None:
        return
    theirs, ours = _facts_of(transform), _facts_of(model.preprocess)
    if any(name in theirs and theirs[name] != ours[name] for name in ours):
        told = (", ".join(f"{name} {facts.get(name, 'unknown')}" for name in ours) for facts in (theirs, ours))
        warnings.warn(
            "the transform prepares images otherwise than the weights expect: {}; the weights: {}. "
            "hv.transforms(model) makes one that fits".format(*told),
            PreprocessWarning,
            stacklevel=3,
        )


def _facts_of(transform: Any) -> dict[str, Any]:
    """Mean, std, size and interpolation of a transform or a preprocessing, as far as they can be seen."""
    own = transform if isinstance(transform, Preprocess) else getattr(transform, "preprocess", None)
    if isinstance(own, Preprocess):
        size = "x".join(map(str, own.input_size))
        return {"mean": own.mean, "std": own.std, "size": size, "interpolation": own.interpolation}
    facts: dict[str, Any] = {}
    for step in getattr(transform, "transforms", [transform]):
        if getattr(step, "mean", None) is not None and getattr(step, "std", None) is not None:
            facts |= {name: tuple(round(float(each), 6) for each in getattr(step, name)) for name in ("mean", "std")}
        size = getattr(step, "size", None)
        if isinstance(size, int) or (isinstance(size, Sequence) and len(size) in (1, 2)):
            height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
            facts["size"] = f"{height}x{width}"
        mode = getattr(step, "interpolation", None)  # torchvision has an enumeration, or in newer versions its text
        mode = mode.value if isinstance(mode, InterpolationMode) else mode
        if isinstance(mode, str):
            facts["interpolation"] = mode
    return facts


def preprocess_of(model: Encoder) -> Preprocess:
    """The preprocessing that belongs to the model's weights, or a plain one for a model without weights."""
    if model.preprocess is not None:
        return model.preprocess
    return default_preprocess(model.spec.img_size, model.spec.in_chans)


def default_preprocess(input_size: tuple[int, int], channels: int) -> Preprocess:
    """For a model trained from scratch: pixels in -1..1, and no border cut from images that are small anyway."""
    return Preprocess(
        input_size=input_size,
        crop_pct=1.0 if min(input_size) <= 64 else 0.875,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )


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
