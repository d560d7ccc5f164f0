"""Files in huggingface_hub's cache that are not what was downloaded: told by their names, which say what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path


def remedy(path: Path, elsewhere: str) -> str:
    """What to do about a file that cannot be read, `elsewhere` if it is not in the cache.

    One in the cache that is damaged is removed, or it would stay.
    """
    blob = path.resolve()
    if "snapshots" not in path.parts:
        return elsewhere
    if blob.parent.name != "blobs":  # a cache without links, in which names tell nothing
        return "delete it and try again"
    if _is_as_named(blob):
        return "that is how it is in the repository: tell its authors, or name another revision"
    path.unlink()
    blob.unlink(missing_ok=True)
    return "it was damaged. It is removed from the cache; try again"


def _is_as_named(blob: Path) -> bool:
    """Whether a file has the hash that the cache calls it by: a sha256, or a sha1 as git computes it."""
    digest = hashlib.sha256()
    if len(blob.name) == 40:
        digest = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    with blob.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == blob.name
