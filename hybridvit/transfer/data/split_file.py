"""The table that says which image is in which split: written by each run, and taken as the split of another."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from ..errors import DataError
from .listing import SPLITS
from .rows import read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from .image_set import Data, ImageSet

COLUMNS = ("split", "class", "image", "content")
LABEL_SEPARATOR = ";"
_HASH_DIGITS = 16


def split_table(data: Data) -> str:
    """CSV with the split, the labels (separated by ;), the name and the first 64 bits of the hash of each image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for split, part in data.parts.items():
        for index, (name, digest) in enumerate(zip(part.names, part.digests, strict=True)):
            labels = LABEL_SEPARATOR.join(data.classes[label] for label in part.labels_of(index))
            writer.writerow((split, labels, name, digest.hex()[:_HASH_DIGITS]))
    return text.getvalue()


def assigned(images: ImageSet, path: Path) -> tuple[str, ...]:
    """The split of each image as the table has it. Raises DataError unless it is about just these images."""
    columns, rows = read_rows(path)
    if missing := [name for name in ("split", "image") if name not in columns]:
        raise DataError(f"{path} has no column {missing[0]!r}; give the split.csv of a run")
    split_of: dict[str, str] = {}
    hash_of: dict[str, str] = {}
    for line, row in rows:
        if row["split"] not in SPLITS:
            raise DataError(f"{path}, line {line}: the split must be train, val or test, got {row['split']!r}")
        split_of[row["image"]] = row["split"]
        hash_of[row["image"]] = row.get("content", "")
    here = set(images.names)
    _require_none([name for name in split_of if name not in here], f"of {path} are not in the data", "put them back")
    _require_none([name for name in images.names if name not in split_of], f"are not in {path}", "remove them")
    changed = [
        name
        for name, digest in zip(images.names, images.digests, strict=True)
        if hash_of[name] and not digest.hex().startswith(hash_of[name])
    ]
    _require_none(changed, f"have other content than when {path} was written", "restore them")
    return tuple(split_of[name] for name in images.names)


def _require_none(names: list[str], what: str, fix: str) -> None:
    if names:
        raise DataError(
            f"{len(names)} images {what} (first: {names[0]}); {fix}, or leave the split file out to split anew"
        )
