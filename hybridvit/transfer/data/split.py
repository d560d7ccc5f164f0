"""Which images are held out: stratified by class, copies of an image on one side, a function of content and seed."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image_set import ImageSet

MAX_HELD_OUT = 5_000


def split_stratified(
    images: ImageSet, classes: Sequence[str], val_fraction: float, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Hold out a share of each class: (train, val). Images of equal content go to one side together.

    With several labels an image, the rarest labels are shared out first (Sechidis et al., On the Stratification of
    Multi-Label Data, 2011), and a label of one image stays in train.
    """
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction must be between 0 and 1, got {val_fraction}")
    fraction = min(val_fraction, MAX_HELD_OUT / len(images))
    held_out = _deal_labels(images, [1 - fraction, fraction], seed)[1] if images.multi_label else None
    if held_out is None:
        held_out = _held_out(images, classes, fraction, seed)
    if not 0 < len(held_out) < len(images):
        raise DataError(f"{len(images)} images are too few to hold some out for validation; add images")
    kept = np.setdiff1d(np.arange(len(images)), held_out)
    return images.subset(kept), images.subset(np.sort(held_out))


def folds(images: ImageSet, classes: Sequence[str], count: int, seed: int) -> list[tuple[ImageSet, ImageSet]]:
    """(train, val) of each of `count` folds: each image is in val once, copies together, classes in equal shares.

    Raises DataError if a class has fewer distinct images than there are folds (with one label an image).
    """
    parts = fold_indices(images, classes, count, seed)
    every = np.arange(len(images))
    return [(images.subset(np.setdiff1d(every, part)), images.subset(part)) for part in parts]


def fold_indices(images: ImageSet, classes: Sequence[str], count: int, seed: int) -> list[np.ndarray]:
    """Which images are in val of each of `folds`, in their order. Raises as that does."""
    if not 2 <= count <= len(set(images.digests)):
        raise DataError(f"folds must be between 2 and the {len(set(images.digests))} distinct images, got {count}")
    for name, contents in zip(classes, _contents_of_class(images, len(classes)), strict=True):
        if len(contents) < count and not images.multi_label:
            raise DataError(
                f"class {name!r} has {len(contents)} distinct image{'s' * (len(contents) != 1)}, too few for {count} "
                "folds: add images, or take fewer folds"
            )
    return [np.sort(part) for part in _deal_labels(images, [1 / count] * count, seed)]


def fewest_in_a_class(images: ImageSet, classes: Sequence[str]) -> int:
    """Distinct images of the class that has the fewest: as many folds can there be."""
    return min(map(len, _contents_of_class(images, len(classes))))


def stratified_sample(images: ImageSet, classes: Sequence[str], count: int, seed: int, least: int = 5) -> ImageSet:
    """About `count` images, of each content one, in which classes keep their shares; `least` of each if it has them.

    Which ones depends on the images' content and the seed alone. Images without any label are left out unless all
    images are taken.
    """
    groups = _groups(images)
    if count >= len(groups):
        return images.subset([members[0] for members in groups.values()])
    chosen: set[bytes] = set()
    for contents in sorted(_contents_of_class(images, len(classes)), key=len):
        _shuffle(contents, seed)
        wanted = max(min(least, len(contents)), round(count * len(contents) / len(groups)))
        wanted -= len(chosen.intersection(contents))
        chosen.update([content for content in contents if content not in chosen][: max(0, wanted)])
    return images.subset(sorted(groups[content][0] for content in chosen))


def _held_out(images: ImageSet, classes: Sequence[str], fraction: float, seed: int) -> list[int]:
    groups = _groups(images)
    held_out: list[int] = []
    for name, contents in zip(classes, _contents_of_class(images, len(classes)), strict=True):
        if len(contents) < 2:
            raise DataError(
                f"class {name!r} has {len(contents)} distinct image{'s' * (len(contents) != 1)}: too few to hold one "
                "out for validation; add images, remove the class, or give train/ and val/ folders"
            )
        _shuffle(contents, seed)
        wanted = max(1, round(fraction * sum(len(groups[content]) for content in contents)))
        taken = 0
        for content in contents[:-1]:
            if taken >= wanted:
                break
            held_out += groups[content]
            taken += len(groups[content])
    return held_out


def _deal_labels(images: ImageSet, shares: Sequence[float], seed: int) -> list[list[int]]:
    """Indices of each part. Each label in turn, the rarest first, goes to the part that lacks it most."""
    groups = _groups(images)
    contents = list(groups)
    _shuffle(contents, seed)
    labels_of = {
        content: {label for index in members for label in images.labels_of(index)}
        for content, members in groups.items()
    }
    contents_of: dict[int, list[bytes]] = defaultdict(list)
    for content in contents:
        for label in labels_of[content]:
            contents_of[label].append(content)
    wanted = {label: [_share(share, len(each)) for share in shares] for label, each in contents_of.items()}
    room = [share * len(images) for share in shares]
    left = {label: len(each) for label, each in contents_of.items()}
    parts: list[list[int]] = [[] for _ in shares]
    dealt: set[bytes] = set()

    def deal(content: bytes, label: int | None) -> None:
        part = max(range(len(shares)), key=lambda number: (0 if label is None else wanted[label][number], room[number]))
        parts[part].extend(groups[content])
        room[part] -= len(groups[content])
        dealt.add(content)
        for each in labels_of[content]:
            wanted[each][part] -= 1
            left[each] -= 1

    while left:
        rarest = min(left, key=lambda label: (left[label], label))
        for content in contents_of[rarest]:
            if content not in dealt:
                deal(content, rarest)
        del left[rarest]
        left = {label: count for label, count in left.items() if count}
    for content in contents:
        if content not in dealt:
            deal(content, None)
    return parts


def _share(share: float, count: int) -> float:
    """Images of a label that a part should get: one at least, if there are two."""
    return max(1.0, share * count) if count >= 2 and share < 0.5 else share * count


def _groups(images: ImageSet) -> dict[bytes, list[int]]:
    """Indices of the images of each content."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, content in enumerate(images.digests):
        groups[content].append(index)
    return groups


def _contents_of_class(images: ImageSet, classes: int) -> list[list[bytes]]:
    """By class, in the order of their first image, whose label counts where copies disagree."""
    found: list[list[bytes]] = [[] for _ in range(classes)]
    for content, members in _groups(images).items():
        for label in images.labels_of(members[0]):
            found[label].append(content)
    return found


def _shuffle(contents: list[bytes], seed: int) -> None:
    salt = str(seed).encode()
    contents.sort(key=lambda content: hashlib.blake2b(content, key=salt).digest())
