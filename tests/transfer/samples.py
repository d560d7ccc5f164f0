"""Small image sets for the tests of this folder."""

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hybridvit.encoder import Encoder
from hybridvit.registry import model_spec
from hybridvit.transfer.data import Data, ImageSet
from hybridvit.transfer.data.files import Files
from hybridvit.transfer.progress import Progress
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.trainer import Trainer
from hybridvit.transfer.transforms import default_preprocess


def draw(path: Path, seed: int, side: int = 8) -> Path:
    """A file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return path


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise that is smooth."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)


def image_set(labels: np.ndarray, contents: list[int] | None = None) -> ImageSet:
    """Images that are not there; those of equal content are copies."""
    contents = list(range(len(labels))) if contents is None else contents
    names = tuple(f"{i}.png" for i in range(len(labels)))
    digests = tuple(content.to_bytes(16, "big") for content in contents)
    return ImageSet(labels, digests, names, Files(Path(), names), np.arange(len(labels)))


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


FAST = Recipe(epochs=2, batch_size=16, lr=2e-3, warmup_epochs=0.5, augment="gentle", flip=0.0)


def trainer_of(data: Data, out: Path, recipe: Recipe = FAST, model: Encoder | None = None, **options: Any) -> Trainer:
    """A run of a `tiny` model on the CPU that keeps nothing."""
    from accelerate import Accelerator

    return Trainer(
        model or tiny(),
        data,
        recipe,
        default_preprocess((16, 16), 1),
        out,
        Accelerator(cpu=True),
        keep=options.pop("keep", lambda best, position: None),
        identity={"model": "tiny"},
        **{"progress": Progress(shown=False), "workers": 0} | options,
    )


def with_several_labels(data: Data) -> Data:
    """The same images, where those of the first class are of the second too."""

    def targets(images: Any) -> Any:
        rows = np.eye(len(data.classes), dtype=np.float32)[images.labels]
        rows[:, 1] = np.maximum(rows[:, 0], rows[:, 1])
        return dataclasses.replace(images, labels=rows)

    return dataclasses.replace(data, train=targets(data.train), val=targets(data.val), test=None)
