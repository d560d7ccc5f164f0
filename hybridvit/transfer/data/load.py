"""From a data specification to checked and split images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..images import MAX_PIXELS
from .checks import check
from .duplicates import copies_within
from .image_set import Data
from .listing import in_order, quoted
from .report import report_of
from .sources import source_of
from .split import folds, split_stratified
from .split_file import assigned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .image_set import ImageSet, OnBad, Split


def load_data(
    data: str | Path,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    on_bad: OnBad = "error",
    split: str | Path | None = None,
    fold: tuple[int, int] | None = None,
    image_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Read, check and split the images of a data specification: a path, or `PREFIX:...`.

    Args:
        data: class folders, a table (.csv, .tsv, .jsonl), `hf:PATH_OR_NAME[:CONFIG]`, `wds:PATTERN` or `idx:DIR`.
        val_fraction: share of each class that is held out where the source has no validation images, at most 5,000
            images in all. Which ones depends on the images' content and the seed alone, and copies of an image stay on
            one side.
        seed: of that split.
        on_bad: "error" refuses a source with files that cannot be decoded and lists them, "skip" leaves them out and
            says so in the notes.
        split: the `split.csv` of an earlier run, to be used instead of the source's own splits.
        fold: (2, 5) holds out the second of five parts of all images that are not for testing, see `folds`.
        image_root: folder that the paths of a table are relative to; by default the table's.
        max_pixels: images of more are refused.
        progress: called with the number of files checked and their total.

    Raises:
        DataError: if anything is wrong, with what to do about it.
    """
    if fold is not None and not (fold[1] >= 2 and 1 <= fold[0] <= fold[1]):
        raise DataError(f"fold must be (NUMBER, COUNT) with a number from 1 to a count of at least 2, got {fold}")
    source = source_of(data, Path(image_root) if image_root is not None else None)
    checked = check(source.listing(), on_bad, max_pixels, progress)
    classes = checked.classes
    splits = assigned(checked.images, Path(split)) if split is not None else checked.splits
    if fold is None:
        parts = _parts(checked.images, classes, splits, val_fraction, seed)
    else:
        parts = _parts_of_fold(checked.images, classes, splits, fold, seed)
    report = report_of(parts, checked)
    return Data(
        classes,
        parts["train"],
        parts["val"],
        parts.get("test"),
        (*checked.notes, *report.notes),
        multi_label=checked.images.multi_label,
        report=report,
    )


def load_split(
    data: str | Path,
    split: Split | None = None,
    *,
    on_bad: OnBad = "error",
    image_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[tuple[str, ...], ImageSet, tuple[str, ...]]:
    """Read images to evaluate on: (class names, images, notes).

    Without a split: test if the source has one, else val, else every image.
    """
    source = source_of(data, Path(image_root) if image_root is not None else None)
    splits = source.splits()
    chosen = split or next((name for name in ("test", "val") if name in splits), "all")
    if chosen != "all" and chosen not in splits:
        raise DataError(_no_split(source.folder or data, chosen, splits))
    if chosen == "all" and splits:
        raise DataError(f"{data} is split into {', '.join(sorted(splits))}; name the split to evaluate on")
    checked = check(source.listing(None if chosen == "all" else chosen), on_bad, max_pixels)
    notes = copies_within(checked.images, checked.classes).notes
    return checked.classes, checked.images, (*checked.notes, *notes)


def _parts(
    images: ImageSet, classes: Sequence[str], splits: Sequence[str] | None, val_fraction: float, seed: int
) -> dict[str, ImageSet]:
    if splits is None:
        train, val = split_stratified(images, classes, val_fraction, seed)
        return {"train": train, "val": val}
    parts = {name: images.subset(np.flatnonzero(np.array(splits) == name)) for name in in_order(splits)}
    if "train" not in parts:
        raise DataError(f"there are images for {' and '.join(parts)}, but none to train on; give some the split train")
    absent = [name for name, count in zip(classes, parts["train"].counts(len(classes)), strict=True) if not count]
    if absent:
        raise DataError(
            f"class {quoted(absent)} has no image to train on; add some to train, or remove the class everywhere"
        )
    if "val" not in parts:
        parts["train"], parts["val"] = split_stratified(parts["train"], classes, val_fraction, seed)
    return parts


def _parts_of_fold(
    images: ImageSet, classes: Sequence[str], splits: Sequence[str] | None, fold: tuple[int, int], seed: int
) -> dict[str, ImageSet]:
    number, count = fold
    for_test = np.zeros(len(images), dtype=bool) if splits is None else np.array(splits) == "test"
    train, val = folds(images.subset(np.flatnonzero(~for_test)), classes, count, seed)[number - 1]
    parts = {"train": train, "val": val}
    return parts | {"test": images.subset(np.flatnonzero(for_test))} if for_test.any() else parts


def _no_split(where: str | Path, split: str, splits: Sequence[str]) -> str:
    has = f"it has {', '.join(splits)}" if splits else "leave the split out to use every image"
    return f"{where} has no folder {split}/; {has}"
