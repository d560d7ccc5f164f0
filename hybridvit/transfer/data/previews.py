"""Images for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..bands import is_array, is_tiff, read_array, scaled, without_gaps
from ..errors import BadImage
from ..images import decode_image

if TYPE_CHECKING:
    from pathlib import Path


def picture_of(data: bytes, name: str | Path, channels: int, covers: int, max_pixels: int) -> Image.Image:
    """Mode "L" for 1 channel, else "RGB"; of several bands the first three, each over its own range."""
    if is_array(data):
        return stretched(read_array(data, name, max_pixels))
    try:
        return decode_image(data, name, 1 if channels == 1 else 3, covers=covers, max_pixels=max_pixels)
    except BadImage:
        if not is_tiff(data):
            raise
        return stretched(read_array(data, name, max_pixels))


def stretched(array: np.ndarray) -> Image.Image:
    """The first three bands of (C, H, W) or (H, W, C), the bands being the fewer, each over its own range."""
    bands = array if array.shape[0] < array.shape[-1] else array.transpose(2, 0, 1)
    shown = without_gaps(scaled(bands[[0, 1, 2] if len(bands) >= 3 else [0, 0, 0]]))
    low, high = (edge(shown, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    levels = (shown - low) / np.where(high > low, high - low, 1) * 255
    return Image.fromarray(levels.astype(np.uint8).transpose(1, 2, 0))
