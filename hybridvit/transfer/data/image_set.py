"""Labelled images, and what a run learns from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from PIL import Image

from ..images import MAX_PIXELS, decode_pixels
from .previews import picture_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from .report import DataReport

OnBad = Literal["error", "skip"]
Split = Literal["train", "val", "test", "all"]


class Storage(Protocol):
    """Where the bytes of images are. It travels to the processes that read, so it holds no images itself."""

    @property
    def root(self) -> Path | None:
        """The folder that names are relative to, if each image is a file."""
        ...

    def read(self, place: int) -> bytes:
        """An image file's content. Raises BadImage."""
        ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, decoded when asked for.

    Attributes:
        labels: (N,) int64 class indices; for several labels an image (N, classes) float32 of 0 and 1.
        digests: content hash of each image, by which duplicates are known.
        names: how a report calls each image: its path below the data folder.
        storage: where the bytes are.
        places: (N,) int64, which of the storage's images these are.
        max_pixels: images of more are refused.
    """

    labels: np.ndarray
    digests: tuple[bytes, ...]
    names: tuple[str, ...]
    storage: Storage
    places: np.ndarray
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    @property
    def root(self) -> Path | None:
        return self.storage.root

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2

    def read(self, index: int) -> bytes:
        """The content of an image file. Raises BadImage."""
        return self.storage.read(int(self.places[index]))

    def path(self, index: int) -> str | Path:
        """Where an image is, for messages."""
        return self.root / self.names[index] if self.root else self.names[index]

    def image(self, index: int, channels: int, covers: int = 0) -> Image.Image | Tensor:
        """What a model of so many channels sees of an image, see `decode_pixels`; covers as in `load_image`."""
        return decode_pixels(self.read(index), self.path(index), channels, covers=covers, max_pixels=self.max_pixels)

    def picture(self, index: int, channels: int = 3, covers: int = 0) -> Image.Image:
        """An image for people to look at: grey for 1 channel; of several bands the first three, over their range."""
        return picture_of(self.read(index), self.path(index), channels, covers, self.max_pixels)

    def subset(self, indices: Sequence[int] | np.ndarray) -> ImageSet:
        picked = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            labels=self.labels[picked],
            digests=tuple(self.digests[i] for i in picked),
            names=tuple(self.names[i] for i in picked),
            places=self.places[picked],
        )

    def joined(self, other: ImageSet) -> ImageSet:
        """These and then the others, which are of the same storage."""
        assert other.storage is self.storage
        return replace(
            self,
            labels=np.concatenate([self.labels, other.labels]),
            digests=self.digests + other.digests,
            names=self.names + other.names,
            places=np.concatenate([self.places, other.places]),
        )

    def labels_of(self, index: int) -> tuple[int, ...]:
        """The class indices of an image."""
        return tuple(np.flatnonzero(self.labels[index]).tolist()) if self.multi_label else (int(self.labels[index]),)

    def counts(self, classes: int) -> np.ndarray:
        """(classes,) images of each class."""
        if self.multi_label:
            return self.labels.sum(axis=0).astype(np.int64)
        return np.bincount(self.labels, minlength=classes)


@dataclass(frozen=True, eq=False)
class Data:
    """What a run learns from.

    Attributes:
        notes: one line each of what the user should know before training starts.
        multi_label: whether an image can have any number of labels.
        report: what the check of the images found.
    """

    classes: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    notes: tuple[str, ...] = ()
    multi_label: bool = False
    report: DataReport | None = None

    @property
    def parts(self) -> dict[str, ImageSet]:
        """The image sets by the name of their split."""
        parts = {"train": self.train, "val": self.val}
        return parts if self.test is None else parts | {"test": self.test}

    def fingerprint(self) -> str:
        """Changes when any image, label or class name does, or the split."""
        digest = hashlib.blake2b(digest_size=16)
        for text in self.classes:
            digest.update(text.encode() + b"\0")
        for part in (self.train, self.val):
            digest.update(part.labels.tobytes())
            for content in part.digests:
                digest.update(content)
        return digest.hexdigest()
