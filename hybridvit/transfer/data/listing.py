"""What a source of images offers before any of them is decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .facts import Facts
    from .image_set import Storage

SPLITS = ("train", "val", "test")
_SPELLINGS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Listing:
    """Labelled images by name, not looked at yet.

    Attributes:
        where: what messages call the source.
        classes: all class names, in the order of their numbers.
        labels: as in `ImageSet`.
        names: as in `ImageSet`; no two are equal.
        storage: where the bytes are; image i is at place i of it.
        splits: train, val or test for each image, if the source is split.
        notes: what the user should know.
        known: content hash and facts of each image, where the source vouches for them and nothing need be decoded.
    """

    where: str
    classes: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    storage: Storage
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    known: tuple[Sequence[bytes], Sequence[Facts]] | None = None

    def unsplit(self) -> Listing:
        return replace(self, splits=None)


class Source(Protocol):
    """One kind of place that images come from.

    `folder` is a data folder, into which a file that is put would become a part of the data.
    """

    prefix: ClassVar[str]

    def __init__(self, address: str, image_root: Path | None) -> None:
        """Raises nothing; address is what follows the prefix, image_root what relative paths are relative to."""
        ...

    @property
    def folder(self) -> Path | None: ...

    def splits(self) -> tuple[str, ...]:
        """The splits that it has, or none. Raises DataError if there is no such source."""
        ...

    def listing(self, split: str | None = None) -> Listing:
        """Of one of its splits, or of everything. Raises DataError."""
        ...


def split_named(name: str) -> str | None:
    """train, val or test for the ways to spell them."""
    return _SPELLINGS.get(name.strip().lower())


def in_order(splits: Sequence[str]) -> tuple[str, ...]:
    """The splits that occur, in the order train, val, test."""
    return tuple(split for split in SPLITS if split in splits)


def encode(labels: Sequence[tuple[str, ...]], multi_label: bool) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names, labels as in `ImageSet`) of the label names of each image. Whole numbers are sorted as such."""
    names = sorted({name for image in labels for name in image}, key=_sort_key(labels))
    number = {name: index for index, name in enumerate(names)}
    if not multi_label:
        return tuple(names), np.array([number[name] for (name,) in labels], dtype=np.int64)
    encoded = np.zeros((len(labels), len(names)), dtype=np.float32)
    for row, image in enumerate(labels):
        encoded[row, [number[name] for name in image]] = 1
    return tuple(names), encoded


def _sort_key(labels: Sequence[tuple[str, ...]]) -> Callable[[str], tuple[int, str]]:
    whole = all(name.isascii() and name.removeprefix("-").isdigit() for image in labels for name in image)
    return (lambda name: (int(name), name)) if whole else (lambda name: (0, name))


def label_text(value: object, where: str) -> str:
    """A label of a table or a JSON file as text. Raises DataError."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise DataError(f"{where}: a label must be a text or a whole number, got {value!r}")
    text = str(value)
    if not text.strip():
        raise DataError(f"{where}: the label is empty" if not text else f"{where}: the label is only spaces")
    return text


def label_texts(value: object, where: str) -> tuple[str, ...]:
    """The labels of a list, each once."""
    if not isinstance(value, (list, tuple)):
        return (label_text(value, where),)
    return tuple(dict.fromkeys(label_text(each, where) for each in value))


def numbers_of(splits: Sequence[str] | None, split: str | None, count: int) -> np.ndarray:
    """Indices of the images of a split, or of all."""
    if split is None or splits is None:
        return np.arange(count)
    return np.flatnonzero(np.array(splits) == split)


def quoted(names: Sequence[str], shown: int = 10) -> str:
    text = ", ".join(repr(name) for name in names[:shown])
    return text if len(names) <= shown else f"{text} and {len(names) - shown} more"
