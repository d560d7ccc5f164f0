"""Images of equal content: inside a split, across splits, and in several classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from .listing import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image_set import ImageSet


class Copies(NamedTuple):
    """names: images of which there is another; torn: those of them whose copies have other labels."""

    names: tuple[str, ...]
    torn: tuple[str, ...]
    notes: tuple[str, ...]


def copies_within(images: ImageSet, classes: Sequence[str], split: str = "") -> Copies:
    """Exact copies within the images, or within those of a split."""
    counts = Counter(images.digests)
    extra = len(images) - len(counts)
    if not extra:
        return Copies((), (), ())
    copies = [index for index, content in enumerate(images.digests) if counts[content] > 1]
    labels_of: dict[bytes, set[tuple[int, ...]]] = defaultdict(set)
    for index in copies:
        labels_of[images.digests[index]].add(images.labels_of(index))
    torn = [index for index in copies if len(labels_of[images.digests[index]]) > 1]
    notes = [f"{extra} of {len(images)} images {f'of {split}/ ' if split else ''}are exact copies of others"]
    if torn:
        contents = {images.digests[index] for index in torn}
        every = {label for labels in labels_of[images.digests[torn[0]]] for label in labels}
        inside = quoted([classes[label] for label in sorted(every)])
        what = "have copies with other labels" if images.multi_label else "lie in more than one class"
        notes.append(f"{len(contents)} images {what} (first: {images.names[torn[0]]}, in {inside})")
    return Copies(tuple(images.names[i] for i in copies), tuple(images.names[i] for i in torn), tuple(notes))


def shared_with_train(parts: dict[str, ImageSet]) -> dict[str, tuple[str, ...]]:
    """Names of the val and test images that are also among the training images."""
    trained = set(parts["train"].digests)
    return {
        split: tuple(name for name, content in zip(part.names, part.digests, strict=True) if content in trained)
        for split, part in parts.items()
        if split != "train"
    }


def notes_on_shared(shared: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{len(names)} images of {split}/ are also in train/: its accuracy will look better than it is"
        for split, names in shared.items()
        if names
    ]
