"""What an image file is, measured while it is decoded for the check."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ImageOps

from ..bands import is_array, is_tiff, read_array, scaled, spatial_shape
from ..errors import BadImage
from ..images import opened, reasons, to_mode

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

NEAR_CONSTANT = 1.0  # standard deviation, of 255 levels, below which an image shows nothing
_ORIENTATION = 0x0112
_SAMPLES_PER_PIXEL = 277


class Facts(NamedTuple):
    """One image file.

    Attributes:
        mode: Pillow's, or the number of bands and their type.
        bands: numbers of channels that a model may have to take its bands one by one.
        deviation: largest standard deviation of a band, in levels of 0..255.
        rotated: whether EXIF says that it is to be shown otherwise than it is stored.
        animated: whether it has more than one frame.
        gaps: whether pixels are NaN or infinite.
        only_bands: whether Pillow cannot read it, so that a model of 1 or 3 channels cannot either.
    """

    width: int
    height: int
    mode: str
    format: str
    bands: tuple[int, ...] = ()
    deviation: float = 255.0
    rotated: bool = False
    animated: bool = False
    gaps: bool = False
    only_bands: bool = False


def content_hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def facts_of(data: bytes, name: Path | str, max_pixels: int) -> Facts:
    """Decode a file as training would, and measure it. Raises BadImage."""
    if is_array(data):
        return _facts_of_array(read_array(data, name, max_pixels), "npy")
    try:
        with reasons(data, name, max_pixels):
            return _facts_of_picture(data, opened(data, name, max_pixels), name, max_pixels)
    except BadImage as error:
        if not (is_tiff(data) and "several bands" in error.reason):
            raise
        return _facts_of_array(read_array(data, name, max_pixels), "TIFF")


def _facts_of_picture(data: bytes, image: Image.Image, name: Path | str, max_pixels: int) -> Facts:
    kind, mode, (width, height) = image.format or "", image.mode, image.size
    frames = getattr(image, "n_frames", 1) if kind == "TIFF" else 1 + getattr(image, "is_animated", False)
    samples = image.tag_v2.get(_SAMPLES_PER_PIXEL, 1) if kind == "TIFF" else len(image.getbands())  # pyright: ignore[reportAttributeAccessIssue]
    reduced = kind == "JPEG" and image.draft("RGB", (2, 2)) is not None
    image.load()
    rotated = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    deviation = _deviation(to_mode(ImageOps.exif_transpose(image) if rotated else image, 3))
    if reduced and deviation < NEAR_CONSTANT:  # a fine texture looks constant at an eighth of the size
        deviation = _deviation(to_mode(opened(data, name, max_pixels), 3))
    return Facts(width, height, mode, kind, (samples, frames), deviation, rotated, frames > 1)


def _deviation(image: Image.Image) -> float:
    counts = np.array(image.histogram(), dtype=np.float64).reshape(-1, 256)
    shares, levels = counts / counts.sum(axis=1, keepdims=True), np.arange(256)
    means = shares @ levels
    return float(np.sqrt(np.maximum(shares @ levels**2 - means**2, 0)).max())


def _facts_of_array(array: np.ndarray, kind: str) -> Facts:
    height, width = spatial_shape(array)
    axes = (1, 2) if (height, width) == array.shape[1:] else (0, 1)
    finite = np.isfinite(array) if array.dtype.kind == "f" else np.True_
    deviations = np.std(scaled(np.where(finite, array, 0)), axis=axes)
    return Facts(
        width,
        height,
        f"{array.size // (height * width)} bands of {array.dtype}",
        kind,
        tuple(sorted({array.shape[0], array.shape[-1]})),
        float(deviations.max() * 255),
        gaps=not np.all(finite),
        only_bands=True,
    )
