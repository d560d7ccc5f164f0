"""Images that are files of a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..images import IMAGE_SUFFIXES, read_image

if TYPE_CHECKING:
    from collections.abc import Iterable

IGNORED_FOLDERS = ("__MACOSX",)


@dataclass(frozen=True, eq=False)
class Files:
    """names: paths relative to the root."""

    root: Path
    names: tuple[str, ...]

    def read(self, place: int) -> bytes:
        return read_image(self.root / self.names[place])


def image_files(folder: Path) -> list[Path]:
    """The files below a folder whose names look like images, hidden ones left out."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in IGNORED_FOLDERS)
        files += [
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return files


def links_outside(root: Path, names: Iterable[str]) -> list[str]:
    """The files that are links to something outside the root."""
    links = [name for name in names if os.path.islink(root / name)]
    home = os.path.realpath(root) + os.sep
    return [name for name in links if not os.path.realpath(root / name).startswith(home)]


def linked_folders(folder: Path) -> list[Path]:
    """Links to folders, which `image_files` does not follow: they may lead back to where they are."""
    return [
        Path(parent, name)
        for parent, folders, _ in os.walk(folder)
        for name in sorted(folders)
        if os.path.islink(os.path.join(parent, name))
    ]
