"""The images that candidates are compared on, and which of them are held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..transfer.data import load_data
from ..transfer.data.sources import source_of
from ..transfer.data.split import fewest_in_a_class, fold_indices, stratified_sample
from ..transfer.errors import DataError

if TYPE_CHECKING:
    from ..transfer.data import ImageSet

MOST_FOLDS = 5
_SEED = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """Images to compare models on.

    Attributes:
        total: images there are, of which these are a part; those for testing are not counted.
        parts: indices of the images that are (fitted on, held out), of each fold; images are held out once at most.
        how: what is held out, in words.
        notes: what was found in the data.
    """

    images: ImageSet
    classes: tuple[str, ...]
    total: int
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    how: str
    notes: tuple[str, ...]

    @property
    def held_out(self) -> np.ndarray:
        """Indices of all images that are held out, in the order of the folds."""
        return np.concatenate([held_out for _, held_out in self.parts])


def sample_of(data: str | Path, count: int, image_root: str | Path | None = None, **options: Any) -> Sample:
    """A stratified sample of about `count` distinct images, a few of each class at least.

    Validation images that the data has are held out, half of the sample at most; else the sample is divided into five
    folds, or as many as the smallest class has images. Images for testing are left alone. The options are those of
    `load_data`. Raises DataError as that does.
    """
    if count < 2:
        raise DataError(f"images must be at least 2, got {count}")
    loaded = load_data(data, image_root=image_root, seed=_SEED, **options)
    total, classes = len(loaded.train) + len(loaded.val), loaded.classes
    if "val" in source_of(data, None if image_root is None else Path(image_root)).splits():
        val = stratified_sample(loaded.val, classes, min(len(loaded.val), count // 2), _SEED)
        train = stratified_sample(loaded.train, classes, max(1, count - len(val)), _SEED)
        places = np.arange(len(train) + len(val))
        parts = ((places[: len(train)], places[len(train) :]),)
        return Sample(train.joined(val), classes, total, parts, "the validation images", loaded.notes)
    images = stratified_sample(loaded.train.joined(loaded.val), classes, count, _SEED)
    distinct = len(images) if images.multi_label else fewest_in_a_class(images, classes)
    held_out = fold_indices(images, classes, max(2, min(MOST_FOLDS, distinct)), _SEED)
    every = np.arange(len(images))
    parts = tuple((np.setdiff1d(every, fold), fold) for fold in held_out)
    return Sample(images, classes, total, parts, f"{len(parts)} folds, each held out once", loaded.notes)
