"""Every image is decoded once before training; what cannot be used is named, and what looks wrong is told."""

from __future__ import annotations

import os
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import BadImage, DataError
from ..images import describe_bad_images
from .facts import content_hash, facts_of
from .image_set import ImageSet
from .listing import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .facts import Facts
    from .image_set import OnBad
    from .listing import Listing

_AT_A_TIME = 4_096  # images that wait for a thread


class Checked(NamedTuple):
    """The images that can be used, with their splits and facts, and those that cannot."""

    classes: tuple[str, ...]
    images: ImageSet
    splits: tuple[str, ...] | None
    facts: tuple[Facts, ...]
    bad: tuple[tuple[str, BadImage], ...]
    notes: tuple[str, ...]


def check(
    listing: Listing, on_bad: OnBad, max_pixels: int, progress: Callable[[int, int], None] | None = None
) -> Checked:
    """Decode and measure what a source lists. Raises DataError for bad files, unless they are to be skipped."""
    if not listing.names:
        raise DataError(f"{listing.where} holds no images")
    if len(listing.classes) < 2:
        raise DataError(f"{listing.where} has one class, {quoted(listing.classes)}; a classifier needs at least two")
    reject_lookalikes(listing.classes, listing.where)
    everything = ImageSet(
        labels=listing.labels,
        digests=(b"",) * len(listing.names),
        names=listing.names,
        storage=listing.storage,
        places=np.arange(len(listing.names)),
        max_pixels=max_pixels,
    )
    found = list(zip(*listing.known, strict=True)) if listing.known else list(_measured(everything, progress))
    named = list(zip(listing.names, found, strict=True))
    bad = tuple((_printable(name), each) for name, each in named if isinstance(each, BadImage))
    good = [index for index, each in enumerate(found) if not isinstance(each, BadImage)]
    digests, facts = zip(*(found[index] for index in good), strict=True) if good else ((), ())
    images = replace(everything.subset(good), digests=digests)
    return Checked(
        listing.classes,
        images,
        None if listing.splits is None else tuple(listing.splits[index] for index in good),
        facts,
        bad,
        (*listing.notes, *_judged(listing, everything, images, [error for _, error in bad], on_bad)),
    )


def _judged(
    listing: Listing, everything: ImageSet, images: ImageSet, bad: list[BadImage], on_bad: OnBad
) -> tuple[str, ...]:
    """Notes on the bad images. Raises DataError if there may be none, or if a class has nothing else."""
    report = f"{len(bad)} of {len(everything)} files below {listing.where} cannot be used:\n{describe_bad_images(bad)}"
    if bad and on_bad == "error":
        raise DataError(f'{report}\nRepair or remove them, or leave them out with on_bad="skip" (--on-bad skip).')
    count = len(listing.classes)
    gone = np.flatnonzero((everything.counts(count) > 0) & (images.counts(count) == 0))
    if len(gone):
        names = quoted([listing.classes[index] for index in gone])
        raise DataError(f"class {names} of {listing.where} has no image that can be used")
    return (f"left out: {report}",) if bad else ()


def _measured(
    images: ImageSet, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[bytes, Facts] | BadImage]:
    def measured(index: int) -> tuple[bytes, Facts] | BadImage:
        path = images.path(index)
        try:
            str(path).encode()
            data = images.read(index)
            return content_hash(data), facts_of(data, path, images.max_pixels)
        except BadImage as error:
            return error
        except UnicodeEncodeError:
            return BadImage(_printable(str(path)), "its name is not UTF-8; rename it")

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")
        for start in range(0, len(images), _AT_A_TIME):
            stop = min(start + _AT_A_TIME, len(images))
            for done, result in enumerate(pool.map(measured, range(start, stop)), start=start + 1):
                yield result
                if progress:
                    progress(done, len(images))


def _printable(name: str) -> str:
    return name.encode(errors="replace").decode()


def _lookalike(name: str) -> str:
    """Equal for names that differ only in case, spaces around them or Unicode form."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def reject_lookalikes(names: Sequence[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        key = _lookalike(name)
        if not key:
            raise DataError(f"class {name!r} of {where} has a name of only spaces; rename it")
        if key in seen:
            raise DataError(
                f"classes {seen[key]!r} and {name!r} of {where} differ only in case, spaces or Unicode form; merge or "
                "rename them"
            )
        seen[key] = name
