"""How an image becomes a model's input: data that belongs to the weights, kept free of torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from .limits import LARGEST_NUMBER, LARGEST_SIDE, shown
from .spec import nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Geometry and normalisation of one set of weights.

    Attributes:
        input_size: (height, width) that the model receives, in pixels.
        interpolation: nearest, bilinear, bicubic or lanczos, always with antialiasing.
        crop_pct: share of the resized image that the crop keeps, in (0, 1].
        crop_mode: how an image is resized before its centre is cropped: "center" until it covers input_size / crop_pct,
            "squash" to just that size whatever its aspect ratio, "border" until it fits in, padded by the mean.
        mean: of each channel, for pixels in 0..1. One value means a grey image, three mean RGB.
        std: of each channel, as many values as `mean` has.
    """

    input_size: tuple[int, int] = (224, 224)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("input_size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        numbers = (*self.input_size, self.crop_pct, *self.mean, *self.std)
        if not all(isinstance(number, int | float) and abs(number) <= LARGEST_NUMBER for number in numbers):
            raise ValueError(f"input_size, crop_pct, mean and std must be numbers, got {shown(self.to_dict())}")
        if len(self.input_size) != 2 or not all(isinstance(side, int) and side >= 1 for side in self.input_size):
            raise ValueError(f"input_size must be (height, width) in pixels, got {shown(self.input_size)}")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"interpolation must be one of {known}, got {shown(self.interpolation)}")
        if self.crop_mode not in CROP_MODES:
            raise ValueError(f"crop_mode must be one of {', '.join(CROP_MODES)}, got {shown(self.crop_mode)}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be in (0, 1], got {self.crop_pct}")
        if max(self.input_size) > LARGEST_SIDE * self.crop_pct:
            raise ValueError(
                f"input_size {self.input_size} at crop_pct {self.crop_pct:g} means resizing to more than the largest "
                f"side, {LARGEST_SIDE} pixels"
            )
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                f"mean and std need one value a channel and std above 0, got mean={shown(self.mean)} "
                f"std={shown(self.std)}"
            )

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def resize_to(self) -> tuple[int, int]:
        """(height, width) of the resized image before the crop."""
        height, width = self.input_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """Read what `to_dict` wrote; an unknown field is an error that offers the nearest one."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                near = nearest(name, known)
                raise ValueError(f"preprocess has no field {shown(name)}.{near} It has: {', '.join(known)}")
        return cls(**values)
