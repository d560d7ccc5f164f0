"""What the check of the images found, for the notes before training, `data.json` and the report page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .duplicates import copies_within, notes_on_shared, shared_with_train
from .facts import NEAR_CONSTANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .checks import Checked
    from .duplicates import Copies
    from .facts import Facts
    from .image_set import ImageSet

_MOST_NAMES = 100  # names of a kind that `to_dict` gives


@dataclass(frozen=True, eq=False, kw_only=True)
class DataReport:
    """The images of a run, seen as a whole. What is about one image is in the order of `names`.

    Attributes:
        counts: images of each class by split, in the order of `classes`.
        names: of all images that can be used.
        facts: of these images.
        broken: (name, reason) of the files that cannot be used.
        copies: exact copies by split, or under "" where copies have been kept on one side.
        shared: by split, names of the images that are also in train.
    """

    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    names: tuple[str, ...]
    facts: tuple[Facts, ...]
    broken: tuple[tuple[str, str], ...]
    copies: dict[str, Copies]
    shared: dict[str, tuple[str, ...]]

    @property
    def imbalance(self) -> float:
        """Training images of the largest class for each of the smallest."""
        return max(self.counts["train"]) / max(1, min(self.counts["train"]))

    @property
    def sizes(self) -> np.ndarray:
        """(N, 2) width and height in pixels."""
        return np.array([(each.width, each.height) for each in self.facts], dtype=np.int64).reshape(-1, 2)

    @property
    def near_constant(self) -> tuple[str, ...]:
        """Names of the images that show next to nothing."""
        return self._names(each.deviation < NEAR_CONSTANT for each in self.facts)

    @property
    def suspicious(self) -> tuple[tuple[str, str], ...]:
        """(class, why) of the classes that may be a mistake."""
        found = []
        for number, name in enumerate(self.classes):
            if self.counts["train"][number] < 2:
                found.append((name, f"has {self.counts['train'][number]} training images"))
            found += [(name, f"has no image in {split}") for split, each in self.counts.items() if not each[number]]
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line each of what the user should know before training starts."""
        notes = [note for each in self.copies.values() for note in each.notes]
        notes += notes_on_shared(self.shared)
        gaps = self._names(each.gaps for each in self.facts)
        for names, what in (
            (self.near_constant, "images are of one colour, or nearly"),
            (gaps, "images have pixels that are NaN or infinite, which become the mean of their band"),
        ):
            if names:
                notes.append(f"{len(names)} {what} (first: {names[0]})")
        if self.suspicious:
            name, why = self.suspicious[0]
            notes.append(
                f"{len({each for each, _ in self.suspicious})} classes look incomplete (first: {name!r} {why})"
            )
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """JSON data; of long lists of names the number and the first hundred."""
        return {
            "images": len(self.names),
            "classes": list(self.classes),
            "counts": {split: list(counts) for split, counts in self.counts.items()},
            "imbalance": round(self.imbalance, 3),
            "sizes": _summary(self.sizes),
            "modes": _counted(each.mode for each in self.facts),
            "formats": _counted(each.format for each in self.facts),
            "broken": _listed([{"image": name, "reason": reason} for name, reason in self.broken]),
            "copies": {split or "all": _listed(each.names) for split, each in self.copies.items()},
            "copies_with_other_labels": _listed([name for each in self.copies.values() for name in each.torn]),
            "shared_with_train": {split: _listed(names) for split, names in self.shared.items()},
            "near_constant": _listed(self.near_constant),
            "rotated": _listed(self._names(each.rotated for each in self.facts)),
            "animated": _listed(self._names(each.animated for each in self.facts)),
            "not_finite": _listed(self._names(each.gaps for each in self.facts)),
            "suspicious_classes": [{"class": name, "why": why} for name, why in self.suspicious],
            "notes": list(self.notes),
        }

    @property
    def bands(self) -> int:
        """As many as every image has, if a model of 1 or 3 channels can take none of them; else 0."""
        if not self.facts or not all(each.only_bands for each in self.facts):
            return 0
        # The first and the last axis of an array may both be that of bands, which are fewer than pixels.
        return min(set.intersection(*(set(each.bands) for each in self.facts)), default=0)

    def require_channels(self, channels: int) -> None:
        """Raises DataError if a model of so many channels cannot take each image."""
        if channels in (1, 3):
            unfit = self._names(each.only_bands for each in self.facts)
        else:
            unfit = self._names(channels not in each.bands for each in self.facts)
        if unfit:
            mode = self.facts[self.names.index(unfit[0])].mode
            raise DataError(
                f"{len(unfit)} of {len(self.names)} images do not have the {channels} channels that the model takes "
                f"(first: {unfit[0]}, {mode}); create the model with as many channels as the images have bands, "
                "by create_model(..., in_chans=N) or channels=N in the recipe, or leave those images out"
            )

    def _names(self, chosen: Iterable[bool]) -> tuple[str, ...]:
        return tuple(name for name, yes in zip(self.names, chosen, strict=True) if yes)


def report_of(parts: dict[str, ImageSet], checked: Checked) -> DataReport:
    """Put together what the check of the images and their split tell."""
    classes, names = checked.classes, checked.images.names
    # Our own split keeps copies together, so they are counted over everything; given splits are looked at one by one.
    wholes = parts if checked.splits is not None else {"": checked.images}
    return DataReport(
        classes=classes,
        counts={split: tuple(part.counts(len(classes)).tolist()) for split, part in parts.items()},
        names=names,
        facts=checked.facts,
        broken=tuple((name, error.reason) for name, error in checked.bad),
        copies={split: copies_within(part, classes, split) for split, part in wholes.items()},
        shared=shared_with_train(parts),
    )


def _summary(sizes: np.ndarray) -> dict[str, Any]:
    by_area = sizes[np.argsort(sizes.prod(axis=1), kind="stable")]
    aspects = np.sort(sizes[:, 0] / sizes[:, 1])
    middle = len(sizes) // 2
    return {
        "smallest": by_area[0].tolist(),
        "median": by_area[middle].tolist(),
        "largest": by_area[-1].tolist(),
        "aspect": [round(float(aspects[index]), 3) for index in (0, middle, -1)],
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _listed(items: Sequence[Any]) -> dict[str, Any]:
    return {"count": len(items), "first": list(items[:_MOST_NAMES])}
