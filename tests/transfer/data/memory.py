"""Image sets that need no files."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hybridvit.transfer.data import ImageSet


@dataclass(frozen=True)
class Memory:
    """Images in memory, offered as PNG files."""

    pixels: np.ndarray
    root: Path | None = None

    def read(self, place: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.pixels[place]).save(file, "PNG")
        return file.getvalue()


def image_set(pixels: np.ndarray, labels: np.ndarray, names: tuple[str, ...] | None = None) -> ImageSet:
    """pixels: (N, height, width) or (N, height, width, 3) uint8; labels as in `ImageSet`."""
    numbers = range(len(pixels))
    return ImageSet(
        labels=labels,
        digests=tuple(number.to_bytes(16, "big") for number in numbers),
        names=names or tuple(f"{number}.png" for number in numbers),
        storage=Memory(pixels),
        places=np.arange(len(pixels)),
    )
