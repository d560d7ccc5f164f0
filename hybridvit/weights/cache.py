"""huggingface_hub's cache: what its names say about the bytes in it, and what to do if they are wrong.

A file of a commit is a link `snapshots/COMMIT/NAME` to `blobs/DIGEST`. The digest is the file's SHA-256 if it is large,
else its name in git. The client itself compares sizes only.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path

from ..resolved import sha256_of
from .errors import WeightsError

CLOCK_SLACK = 2.0  # seconds that a file system's clock may be behind


def promised_digest(path: Path) -> str | None:
    """The digest by which the cache calls a file's bytes; None outside the cache, or if it has names of its own."""
    blob = path.resolve()
    known = blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name)
    return blob.name if known else None


def promised_sha256(path: Path) -> str | None:
    """The SHA-256 that the cache has for a file without reading it; large files have one."""
    digest = promised_digest(path)
    return digest if digest and len(digest) == 64 else None


def has_digest(path: Path, digest: str) -> bool:
    """Whether a file's bytes have a digest: SHA-256, or, if it is shorter, git's, for which mirrors give SHA-1."""
    if len(digest) == 64:
        return sha256_of(path) == digest
    content = path.read_bytes()  # a small file's
    of_git = b"blob %d\0" % len(content)
    return digest in (hashlib.sha1(each + content, usedforsecurity=False).hexdigest() for each in (of_git, b""))


def check_cached(path: Path, where: str) -> None:
    """Reads a file of the cache and compares it with its digest.

    Raises WeightsError for wrong bytes, which are removed from the cache before, so that they are downloaded again.
    """
    digest = promised_digest(path)
    if digest is None or has_digest(path, digest):
        return
    _remove(path)
    raise WeightsError(
        f"{path.name} of {where} was damaged on its way or in the cache: its bytes have not the digest {digest}. It is "
        "removed from the cache; try again, and it is downloaded again"
    )


def check_downloaded(path: Path, where: str, since: float) -> None:
    """As `check_cached`, for a file that has been written `since`, by the clock; older ones were checked then."""
    if path.stat().st_mtime >= since - CLOCK_SLACK:
        check_cached(path, where)


def remedy(path: Path, elsewhere: str) -> str:
    """What to do about a file that cannot be read, `elsewhere` if it is not in the cache.

    One in the cache that is damaged is removed, or it would stay.
    """
    if not _in_cache(path):
        return elsewhere
    digest = promised_digest(path)
    if digest is None:  # a cache without links, in which names tell nothing
        return "delete it and try again"
    if has_digest(path, digest):
        return "that is how it is in the repository: tell its authors, or name another revision"
    _remove(path)
    return "it was damaged. It is removed from the cache; try again"


def _in_cache(path: Path) -> bool:
    """Whether a path is .../models--ORG--NAME/snapshots/COMMIT/..., and not a user's own that has one such part."""
    places = zip(path.parts, path.parts[1:], path.parts[2:], strict=False)
    return any(
        repository.startswith("models--") and between == "snapshots" and re.fullmatch("[0-9a-f]{40}", commit)
        for repository, between, commit in places
    )


def _remove(path: Path) -> None:
    """Takes a file out of the cache: its bytes and the link to them."""
    for each in (path.resolve(), path):
        with contextlib.suppress(FileNotFoundError):
            each.unlink()
