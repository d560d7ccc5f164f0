"""Small image sets for the tests of this folder."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hybridvit.encoder import Encoder
from hybridvit.registry import model_spec


def draw(path: Path, seed: int, side: int = 8) -> Path:
    """A file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return path


def folder_of(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Class folders with that many images each, no two of them alike."""
    for number, (name, count) in enumerate(counts.items()):
        for i in range(count):
            draw(root / name / f"{i}.png", seed=seed + 1000 * number + i)
    return root


def write_idx(folder: Path, counts: dict[str, int], classes: int = 3, compress: bool = True) -> Path:
    """The files of an MNIST-like set whose classes are easy to tell apart."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        labels = (np.arange(count) % classes).astype(np.uint8)
        pixels = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        pixels[np.arange(count), labels * 8] = 255  # one bright row that says the class
        for name, array in ((f"{split}-images-idx3-ubyte", pixels), (f"{split}-labels-idx1-ubyte", labels)):
            header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = header + array.tobytes()
            (folder / (f"{name}.gz" if compress else name)).write_bytes(
                gzip.compress(content, mtime=0) if compress else content
            )
    return folder


def tiny(name: str = "cct_2_3x2_32", **changes: Any) -> Encoder:
    """A model for grey images of 16 x 16 pixels in three classes."""
    torch.manual_seed(0)
    return model_spec(name).replace(img_size=(16, 16), in_chans=1, num_classes=3, **changes).build()
