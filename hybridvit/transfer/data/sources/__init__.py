"""Where labelled images come from, one kind of source a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError
from .folder import Folder
from .hf import HuggingFace
from .idx import Idx
from .table import Table, is_table
from .wds import WebDataset

if TYPE_CHECKING:
    from ..listing import Source

SOURCES: dict[str, type[Source]] = {source.prefix: source for source in (HuggingFace, Idx, Table, WebDataset)}


def source_of(data: str | Path, image_root: Path | None = None) -> Source:
    """The source that a data specification names. Raises DataError for an unknown prefix."""
    prefix, colon, address = str(data).partition(":")
    if colon and prefix in SOURCES and not isinstance(data, Path):
        if image_root is not None and prefix != Table.prefix:
            raise DataError(f"image_root is for a table, and {data} is none; leave it out")
        return SOURCES[prefix](address, image_root)
    path = Path(data).expanduser()
    if re.fullmatch("[a-z]{2,}", prefix) and colon and not path.exists():
        known = ", ".join(f"{name}:" for name in sorted(SOURCES))
        raise DataError(f"{data}: no such folder or table, and no source {prefix}:; there are {known}")
    return (Table if is_table(path) and not path.is_dir() else Folder)(str(data), image_root)


def folder_of(data: str | Path) -> Path | None:
    """The data folder into which nothing may be written."""
    return source_of(data).folder
