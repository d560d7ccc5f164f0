"""The four IDX files of MNIST and its relatives."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...errors import DataError
from ..facts import Facts, content_hash
from ..listing import Listing

_FILES = {"train": "train", "test": "t10k"}
_FASHION_MNIST_TEST_LABELS = "36a6875013fe680369ab320bd2ad1fe9"
_FASHION_MNIST_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


class Idx:
    """`idx:DIR`."""

    prefix: ClassVar[str] = "idx"

    def __init__(self, address: str, image_root: Path | None) -> None:
        self.folder = Path(address).expanduser()

    def splits(self) -> tuple[str, ...]:
        return tuple(_FILES)

    def listing(self, split: str | None = None) -> Listing:
        if not self.folder.is_dir():
            raise DataError(
                f"folder {self.folder} not found; Fashion-MNIST comes with Debian's package dataset-fashion-mnist, in "
                "/usr/share/datasets/fashion-mnist"
            )
        storage = Pixels(self.folder)
        labels = {name: _labels(self.folder, name, len(pixels)) for name, pixels in storage.parts.items()}
        if split:
            storage.keep(split)
        wanted = list(storage.parts)
        everything = np.concatenate([labels[name] for name in wanted])
        digests = [content_hash(image.tobytes()) for name in wanted for image in storage.parts[name]]
        facts = [each for name in wanted for each in _facts(storage.parts[name])]
        return Listing(
            where=str(self.folder),
            classes=_classes(labels),
            labels=everything.astype(np.int64),
            names=tuple(f"{_FILES[name]}/{index}" for name in wanted for index in range(len(labels[name]))),
            storage=storage,
            splits=tuple(name for name in wanted for _ in labels[name]),
            known=(digests, facts),
        )


class Pixels:
    """The images of IDX files, each offered as the content of a PGM file."""

    root = None

    def __init__(self, folder: Path, wanted: tuple[str, ...] = tuple(_FILES)) -> None:
        self.folder, self.wanted = folder, wanted
        self._parts: dict[str, np.ndarray] | None = None

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """(N, height, width) uint8 by split."""
        if self._parts is None:
            self._parts = {
                name: _read(self.folder, f"{_FILES[name]}-images-idx3-ubyte", dimensions=3) for name in self.wanted
            }
        return self._parts

    def keep(self, split: str) -> None:
        """Forget the others."""
        self.wanted, self._parts = (split,), {split: self.parts[split]}

    def read(self, place: int) -> bytes:
        for pixels in self.parts.values():
            if place < len(pixels):
                height, width = pixels[place].shape
                return b"P5 %d %d 255\n" % (width, height) + pixels[place].tobytes()
            place -= len(pixels)
        raise AssertionError("no such image")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parts": None}  # another process reads the files itself


def _facts(pixels: np.ndarray) -> list[Facts]:
    height, width = pixels.shape[1:]
    flat = pixels.reshape(len(pixels), -1)
    deviations = [part.std(axis=1, dtype=np.float32) for part in np.array_split(flat, -(-len(flat) // 1024) or 1)]
    return [Facts(width, height, "L", "IDX", (1,), each) for each in np.concatenate(deviations).tolist()]


def _labels(folder: Path, split: str, count: int) -> np.ndarray:
    labels = _read(folder, f"{_FILES[split]}-labels-idx1-ubyte", dimensions=1)
    if len(labels) != count:
        raise DataError(f"{folder}: {count} {_FILES[split]} images but {len(labels)} labels")
    return labels


def _classes(labels: dict[str, np.ndarray]) -> tuple[str, ...]:
    test = labels["test"].astype(np.uint8).tobytes()
    if hashlib.blake2b(test, digest_size=16).hexdigest() == _FASHION_MNIST_TEST_LABELS:
        return _FASHION_MNIST_CLASSES
    count = int(max(each.max() for each in labels.values())) + 1
    return tuple(str(label) for label in range(count))


def _read(folder: Path, name: str, dimensions: int) -> np.ndarray:
    path = next((folder / f for f in (name, f"{name}.gz") if (folder / f).is_file()), None)
    if path is None:
        raise DataError(f"{folder} has neither {name} nor {name}.gz")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    header = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is not an IDX file of bytes with {dimensions} dimensions")
    shape = tuple(np.frombuffer(content[4:header], dtype=">u4").astype(np.int64).tolist())
    if len(content) != header + int(np.prod(shape)):
        raise DataError(f"{path} is truncated: {len(content)} bytes for a shape of {shape}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
