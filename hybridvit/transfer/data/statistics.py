"""Mean and standard deviation of the bands of training images, for models whose bands nobody has measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..transforms import preprocess_of

if TYPE_CHECKING:
    from ...encoder import Encoder
    from ...preprocess import Preprocess
    from .image_set import Data, ImageSet

_MOST_IMAGES = 2_000


def measured_preprocess(model: Encoder, data: Data) -> Preprocess:
    """The preprocessing of the model's weights; of several bands with the statistics of the training images.

    Statistics of colours, repeated for more channels, say nothing about other bands, so they are measured too. Raises
    DataError if there are images that the model's channels do not fit.
    """
    preprocess = preprocess_of(model)
    if data.report is not None:
        data.report.require_channels(preprocess.channels)
    if preprocess.channels in (1, 3) or not (model.preprocess is None or _repeats_colours(preprocess)):
        return preprocess
    mean, std = band_statistics(data.train, preprocess.channels)
    return replace(preprocess, mean=mean, std=std)


def band_statistics(images: ImageSet, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each band over the pixels of at most 2,000 images, each image counting the same."""
    step = -(-len(images) // _MOST_IMAGES)
    sums = torch.zeros(2, channels, dtype=torch.float64)
    chosen = range(0, len(images), step)
    for index in chosen:
        bands = images.image(index, channels)
        assert isinstance(bands, Tensor)  # of neither 1 nor 3 channels
        pixels = bands.double().flatten(1)
        sums += torch.stack([pixels.mean(dim=1), pixels.square().mean(dim=1)])
    mean, square = sums / len(chosen)
    std = (square - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(each or 1.0 for each in std.tolist())  # a constant band has nothing to scale


def _repeats_colours(preprocess: Preprocess) -> bool:
    """Whether the statistics are those of three colours, or of one grey, again and again."""
    return any(
        all(values[i] == values[i % period] for i in range(len(values)))
        for period in (1, 3)
        for values in [tuple(zip(preprocess.mean, preprocess.std, strict=True))]
    )
