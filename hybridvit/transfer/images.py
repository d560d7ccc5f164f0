"""The one way an image file becomes pixels, for training, evaluation and prediction alike."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .bands import decode_bands, is_array, is_tiff, too_large
from .errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffixes in ("avif bmp gif heic heif ico jfif jp2 jpe jpeg jpg npy", "pbm pgm png pnm ppm tga tif tiff webp")
    for suffix in suffixes.split()
)
MAX_PIXELS = 89_478_485  # Pillow's own limit for images that nobody has vouched for: 256 MiB of RGB

_WHITE = (255, 255, 255, 255)
_DEEP_INTEGER_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def load_image(path: Path | str, channels: int = 3, *, covers: int = 0, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file to mode "L" (channels=1) or "RGB" (channels=3).

    EXIF orientation is applied, transparency is composited on white, the first frame of an animation is taken, and
    pixels of 16 bits or more keep their range (`to_mode`). covers: shorter side in pixels that the caller needs; a JPEG
    is then decoded at the smallest of its own scales that is at least twice that. Raises BadImage.
    """
    return decode_image(read_image(path), path, channels, covers=covers, max_pixels=max_pixels)


def read_image(path: Path | str) -> bytes:
    """The content of a file. Raises BadImage, also for a name that could not be written into a report."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        readable = str(path).encode(errors="replace").decode()
        raise BadImage(readable, "its name is not UTF-8; rename it") from None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadImage(path, f"cannot be read: {error.strerror or error}") from None


def decode_image(
    data: bytes, name: Path | str, channels: int = 3, *, covers: int = 0, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """`load_image` for the content of a file; name is for the error message."""
    with reasons(data, name, max_pixels):
        image = opened(data, name, max_pixels)
        if covers and image.format == "JPEG":
            image.draft("RGB" if channels == 3 else "L", (2 * covers, 2 * covers))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return to_mode(image, channels)


def load_pixels(
    path: Path | str, channels: int, *, covers: int = 0, max_pixels: int = MAX_PIXELS
) -> Image.Image | Tensor:
    """`load_image` for a model of any number of channels, see `decode_pixels`."""
    return decode_pixels(read_image(path), path, channels, covers=covers, max_pixels=max_pixels)


def decode_pixels(
    data: bytes, name: Path | str, channels: int, *, covers: int = 0, max_pixels: int = MAX_PIXELS
) -> Image.Image | Tensor:
    """What a file shows a model of so many channels: a Pillow image for 1 and 3, else a tensor (`decode_bands`)."""
    if channels in (1, 3):
        return decode_image(data, name, channels, covers=covers, max_pixels=max_pixels)
    if is_array(data) or is_tiff(data):
        return decode_bands(data, name, channels, max_pixels)
    with reasons(data, name, max_pixels):
        return to_input(opened(data, name, max_pixels), channels)


def to_input(image: Image.Image | Tensor, channels: int) -> Image.Image | Tensor:
    """An image as a model of so many channels takes it: mode "L" or "RGB" for 1 and 3, else a tensor of its bands.

    Raises ValueError for another number of bands.
    """
    if not isinstance(image, Image.Image):
        found = image.shape[0]
    elif channels in (1, 3):
        return to_mode(image, channels)
    else:
        image, found = bands_of(image), len(image.getbands())
    if found != channels:
        raise ValueError(f"it has {found} bands, the model takes {channels}")
    return image


def bands_of(image: Image.Image) -> Tensor:
    """(C, H, W) float32 in 0..1 of an image of 8 bits a band, each band by itself; EXIF orientation is applied."""
    import torch

    pixels = np.asarray(ImageOps.exif_transpose(image))
    if pixels.dtype != np.uint8:
        raise ValueError(f"one band of mode {image.mode}; a model of 1 channel takes it")
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1).astype(np.float32) / 255)


def opened(data: bytes, name: Path | str, max_pixels: int) -> Image.Image:
    """An image that is not decoded yet, and not larger than the limit. To be called among `reasons`."""
    image = Image.open(BytesIO(data))
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(name, too_large(width, height, max_pixels))
    return image


@contextmanager
def reasons(data: bytes, name: Path | str, max_pixels: int) -> Iterator[None]:
    """Whatever goes wrong with the content of a file becomes a BadImage with its reason."""
    if not data:
        raise BadImage(name, "the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images and odd metadata; the limit decides
            yield
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage(name, f"more than twice the limit of {max_pixels / 1e6:.0f} million pixels") from None
    except UnidentifiedImageError:
        raise BadImage(name, _unknown_format(data)) from None
    except Exception as error:  # damaged content makes Pillow's decoders raise almost anything
        raise BadImage(name, f"damaged: {error or type(error).__name__}") from None


def to_mode(image: Image.Image, channels: int) -> Image.Image:
    """Convert any Pillow image to "L" (channels=1) or "RGB" (channels=3).

    Transparent pixels show white. 16-bit integers are divided by 257, so that 65535 is white. 32-bit integers and
    floats have no agreed white: floats within 0..1 are multiplied by 255, values within 0..255 are taken as they are,
    integers within 0..65535 as 16 bits, and anything else is stretched between its smallest and largest value.
    """
    if channels not in (1, 3):
        raise ValueError(f"images are read as grey (1 channel) or RGB (3 channels), got {channels} channels")
    mode = "L" if channels == 1 else "RGB"
    if image.mode in _DEEP_INTEGER_MODES or image.mode == "F":
        image = Image.fromarray(_to_bytes(np.asarray(image), image.mode))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    return image if image.mode == mode else image.convert(mode)


def _to_bytes(pixels: np.ndarray, mode: str) -> np.ndarray:
    if mode.startswith("I;16"):
        return (pixels.astype(np.uint32) * 255 // 65535).astype(np.uint8)
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(pixels.astype(np.float64), nan=low, posinf=high, neginf=low)
    if mode == "F" and low >= 0 and high <= 1:
        scaled = values * 255
    elif low >= 0 and high <= 255:
        scaled = values
    elif mode == "I" and low >= 0 and high <= 65535:
        scaled = values / 257
    else:
        scaled = (values - low) * (255 / ((high - low) or 1))
    return scaled.astype(np.uint8)


def _unknown_format(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return "HEIC or another format that Pillow reads only with a plug-in; convert it to JPEG or PNG"
    bands = "only a model of as many channels takes (create_model(..., in_chans=N))"
    if is_array(data):
        return f"a NumPy array, which {bands}"
    if is_tiff(data):
        return f"a TIFF that Pillow cannot read: damaged, or of several bands, which {bands}"
    return f"not an image that Pillow can read (it starts with {data[:8]!r})"


def describe_bad_images(bad: Iterable[BadImage], shown: int = 20) -> str:
    """One line a file, the first `shown` of them."""
    bad = list(bad)
    lines = [f"  {image.path}: {image.reason}" for image in bad[:shown]]
    if len(bad) > shown:
        lines.append(f"  ... and {len(bad) - shown} more")
    return "\n".join(lines)
