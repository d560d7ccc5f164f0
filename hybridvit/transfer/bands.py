"""Images of several bands (satellites, microscopes): NumPy arrays and TIFF files to float tensors."""

from __future__ import annotations

import math
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from .errors import BadImage

if TYPE_CHECKING:
    from pathlib import Path

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_array(data: bytes) -> bool:
    return data[:6] == b"\x93NUMPY"


def is_tiff(data: bytes) -> bool:
    return data[:4] in _TIFF_MAGIC


def decode_bands(data: bytes, name: Path | str, channels: int, max_pixels: int) -> Tensor:
    """(C, H, W) float32 of an array (H, W, C) or (C, H, W), channels last where both fit.

    Integers are divided by the largest value of their type, so that they lie in 0..1; floats are taken as they are.
    What is NaN or infinite becomes the mean of the band's other pixels. Raises BadImage.
    """
    array = read_array(data, name, max_pixels)
    if channels not in (array.shape[0], array.shape[-1]):
        raise BadImage(name, f"an array of shape {shape_text(array)}, the model takes {channels} channels")
    bands = array.transpose(2, 0, 1) if array.shape[-1] == channels else array
    return torch.from_numpy(without_gaps(scaled(bands)))


def read_array(data: bytes, name: Path | str, max_pixels: int) -> np.ndarray:
    """The array of three dimensions in a .npy or TIFF file, of integers or floats. Raises BadImage."""
    try:
        array = _from_npy(data, name) if is_array(data) else _from_tiff(data, name, max_pixels)
    except BadImage:
        raise
    except Exception as error:  # damaged content makes the readers raise almost anything
        if "imagecodecs" in str(error):
            raise BadImage(name, "its compression needs imagecodecs: pip install imagecodecs") from None
        raise BadImage(name, f"damaged: {error or type(error).__name__}") from None
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "buif":
        raise BadImage(
            name,
            f"an array of shape {shape_text(array)} and type {array.dtype}; it must be (H, W, C) or (C, H, W), of "
            "integers or floats",
        )
    height, width = spatial_shape(array)
    if height * width > max_pixels:
        raise BadImage(name, too_large(width, height, max_pixels))
    return array


def spatial_shape(array: np.ndarray) -> tuple[int, int]:
    """(height, width), if the bands are the fewer."""
    return array.shape[1:] if array.shape[0] < array.shape[-1] else array.shape[:2]  # pyright: ignore[reportReturnType]


def scaled(array: np.ndarray) -> np.ndarray:
    """float32; integers in 0..1."""
    if array.dtype.kind in "ui":
        return (array / np.float64(np.iinfo(array.dtype).max)).astype(np.float32)
    return array.astype(np.float32)


def without_gaps(bands: np.ndarray) -> np.ndarray:
    """(C, H, W) whose pixels are all finite."""
    finite = np.isfinite(bands)
    if not finite.all():
        counts = np.maximum(finite.sum(axis=(1, 2), keepdims=True), 1)
        means = np.where(finite, bands, 0).sum(axis=(1, 2), keepdims=True, dtype=np.float64) / counts
        bands = np.where(finite, bands, means.astype(np.float32))
    return np.ascontiguousarray(bands)


def resized_bands(bands: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """(C, H, W) at another (height, width), with antialiasing; pixels of 0..1 stay there, as they do in Pillow."""
    if interpolation == "lanczos":
        raise ValueError("images of several bands are resized by bicubic, bilinear or nearest, not by lanczos")
    low, high = min(0.0, bands.min().item()), max(1.0, bands.max().item())
    return F.resize(bands, list(size), InterpolationMode(interpolation), antialias=True).clamp(low, high)


def centred(bands: Tensor, size: tuple[int, int], fill: tuple[float, ...]) -> Tensor:
    """The middle (height, width) of bands (C, H, W), surrounded by the fill of each band where they are smaller."""
    height, width = (max(pair) for pair in zip(size, bands.shape[-2:], strict=True))
    if (height, width) != bands.shape[-2:]:
        padded = torch.tensor(fill, dtype=bands.dtype)[:, None, None].expand(-1, height, width).clone()
        top, left = (height - bands.shape[-2]) // 2, (width - bands.shape[-1]) // 2
        padded[:, top : top + bands.shape[-2], left : left + bands.shape[-1]] = bands
        bands = padded
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return bands[:, top : top + size[0], left : left + size[1]]


def shape_text(array: np.ndarray) -> str:
    return f"({', '.join(map(str, array.shape))})"


def too_large(width: int, height: int, max_pixels: int) -> str:
    return (
        f"{width}x{height} is {width * height / 1e6:.0f} million pixels, above the limit of {max_pixels / 1e6:.0f} "
        "million; shrink it"
    )


def _from_npy(data: bytes, name: Path | str) -> np.ndarray:
    file = BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    # Before anything is allocated: a header can claim any size.
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise BadImage(name, f"damaged: its header says shape {shape} of {dtype}, which is not what follows")
    return np.load(BytesIO(data), allow_pickle=False)


def _from_tiff(data: bytes, name: Path | str, max_pixels: int) -> np.ndarray:
    try:
        import tifffile
    except ModuleNotFoundError:
        raise BadImage(name, "a TIFF of several bands needs tifffile: pip install 'hybridvit[bands]'") from None
    with tifffile.TiffFile(BytesIO(data)) as file:
        series = file.series[0]
        shape = [side for side in series.shape if side > 1]
        if math.prod(sorted(shape)[-2:]) > max_pixels:
            height, width = sorted(shape)[-2:]
            raise BadImage(name, too_large(width, height, max_pixels))
        return np.asarray(series.asarray()).squeeze()
