"""What `predict` is given: files, folders, patterns, and names on standard input."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .data import image_files
from .images import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

STANDARD_INPUT = "-"


def listed_images(given: Iterable[str | Path], standard_input: BinaryIO | None = None) -> Iterator[Path | BadImage]:
    """The image files that are meant, in the order in which they are given; what leads to none as a BadImage.

    A folder stands for the images below it, a pattern (`*`, `?`, `[...]`, `**` for any folders) for what it matches,
    sorted by name, and `-` for the names on `standard_input`, one a line or separated by NUL characters.
    """
    for each in map(str, given):
        if each == STANDARD_INPUT and standard_input is not None:
            yield from listed_images(_names(standard_input.read()))
        elif os.path.isdir(each):
            yield from _images_below(each)
        elif not os.path.lexists(each) and glob.has_magic(each):
            yield from _matching(each)
        else:
            yield Path(each)


def _names(content: bytes) -> list[str]:
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(line) for line in lines if line]


def _images_below(folder: str) -> Iterator[Path | BadImage]:
    files = image_files(Path(folder))
    yield from files or [BadImage(folder, "no image in this folder")]


def _matching(pattern: str) -> Iterator[Path | BadImage]:
    matches = sorted(glob.glob(pattern, recursive=True))
    for match in matches:
        if not os.path.isdir(match):
            yield Path(match)
        elif "**" not in pattern:  # which matches what is in its folders too
            yield from _images_below(match)
    if not matches:
        yield BadImage(pattern, "no file matches this pattern")
