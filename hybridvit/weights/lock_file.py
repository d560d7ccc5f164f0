"""Lock files: for each name the source, the commit and the bytes of the weights that it stands for.

A load with `lock=` takes exactly these and refuses anything else.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..resolved import Resolved, sha256_of
from ..spec import nearest
from .errors import WeightsError
from .exclusive import replaced

if TYPE_CHECKING:
    from .sources import HubFiles

LOCK_FORMAT_VERSION = 1


class LockError(WeightsError):
    """Weights are not those of the lock file, or the lock file cannot be read."""


@dataclass(frozen=True)
class LockedFile:
    """The bytes of a file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class LockedWeights:
    """What one name stands for. `commit` is None where there are no commits."""

    source: str
    commit: str | None
    files: Mapping[str, LockedFile]

    @classmethod
    def of(cls, resolved: Resolved) -> LockedWeights:
        files = {file.name: LockedFile(file.sha256, file.size) for file in resolved.files}
        return cls(resolved.source, resolved.commit, files)


@dataclass(frozen=True)
class Lock:
    """The contents of a lock file at `path`, which need not exist yet."""

    path: Path
    weights: Mapping[str, LockedWeights]

    def add_command(self, name: str) -> str:
        """The command that locks a name to what it is now."""
        return f"hybridvit lock {_quoted(name)} --file {_quoted(str(self.path))}"

    def of(self, name: str, source: str) -> LockedWeights:
        """What a name is locked to. Raises LockError if it is not in the lock, or has another source by now."""
        if name not in self.weights:
            raise LockError(
                f"{name} is not in {self.path}.{nearest(name, self.weights)} To add it: {self.add_command(name)}"
            )
        locked = self.weights[name]
        if locked.source != source:
            raise LockError(
                f"{name} is locked to {locked.source} in {self.path}, and is {source} now; to accept that: "
                f"{self.add_command(name)}"
            )
        return locked

    def pin(self, files: HubFiles, name: str, locked: LockedWeights, revision: str | None) -> None:
        """Makes a repository give the files of the locked commit. Raises LockError if another is asked for.

        A branch or tag is a name of what was locked, whatever it is at by now.
        """
        if re.fullmatch("[0-9a-f]{40}", revision or "") and revision != locked.commit:
            raise LockError(f"{name} is locked to commit {locked.commit} in {self.path}, and you ask for {revision}")
        files.commit = locked.commit

    def check(self, name: str, locked: LockedWeights, file: str, path: Path | None) -> None:
        """Raises LockError unless a file of a name, None where there is none, is what is locked."""
        expected = locked.files.get(file)
        if path is None and expected is None:
            return
        accept = f"to accept that: {self.add_command(name)}"
        if expected is None:
            raise LockError(f"{file} of {name} is not in {self.path}; {accept}")
        if path is None:
            raise LockError(f"{file} of {name} is locked in {self.path}, and is not there; {accept}")
        size = path.stat().st_size
        found = sha256_of(path) if size == expected.size else None
        if found != expected.sha256:
            differs = f"{size:,} bytes, locked {expected.size:,}" if found is None else f"sha256 {found}"
            raise LockError(
                f"{file} of {name} is not the file in {self.path}: {differs}, locked sha256 {expected.sha256}; get it "
                f"again, or {accept}"
            )

    def with_weights(self, added: Mapping[str, LockedWeights]) -> Lock:
        """The same with names added, or locked anew."""
        return replace(self, weights={**self.weights, **added})

    def write(self) -> None:
        """Writes the file, keys sorted, whole or not at all. Of a link, it is the file behind it."""
        data = {"format_version": LOCK_FORMAT_VERSION, "weights": {k: _to_dict(v) for k, v in self.weights.items()}}
        text = json.dumps(data, indent=1, sort_keys=True) + "\n"
        with replaced(Path(os.path.realpath(self.path))) as new:
            new.write_text(text, encoding="utf-8")


def read_lock(path: str | Path) -> Lock:
    """The lock file at `path`.

    Raises:
        FileNotFoundError: if there is none.
        LockError: for anything in it that is not as `Lock.write` writes it.
    """
    path = Path(path).expanduser()
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_doubles)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no lock file {path}; write one with: hybridvit lock NAME --file {_quoted(str(path))}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise LockError(f"{path} is no lock file: it is not JSON ({error})") from error
    try:
        return Lock(path, _weights(data))
    except _Malformed as error:
        raise LockError(
            f"{path} is no lock file: {error}; write it again with: hybridvit lock NAME --file ..."
        ) from None


class _Malformed(Exception):
    pass


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _weights(data: Any) -> dict[str, LockedWeights]:
    fields = _table(data, "it", ("format_version", "weights"))
    if fields["format_version"] != LOCK_FORMAT_VERSION:
        raise _Malformed(f"it has format version {fields['format_version']!r}, read is {LOCK_FORMAT_VERSION}")
    return {name: _locked(value, name) for name, value in _table(fields["weights"], "'weights'").items()}


def _locked(value: Any, name: str) -> LockedWeights:
    fields = _table(value, name, ("source", "commit", "files"))
    if not isinstance(fields["source"], str):
        raise _Malformed(f"the source of {name} is no text")
    commit = fields["commit"]
    if not (commit is None or (isinstance(commit, str) and re.fullmatch("[0-9a-f]{40}", commit))):
        raise _Malformed(f"the commit of {name} is {commit!r}, expected 40 hexadecimal digits or null")
    if fields["source"].startswith("hf:") != (commit is not None):
        raise _Malformed(f"{name} is from {fields['source']} and has commit {commit!r}")
    files: dict[str, LockedFile] = {}
    for file, facts in _table(fields["files"], f"'files' of {name}").items():
        facts = _table(facts, f"{file} of {name}", ("sha256", "size"))
        digest, size = facts["sha256"], facts["size"]
        if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise _Malformed(f"the sha256 of {file} of {name} is {digest!r}, expected 64 hexadecimal digits")
        if type(size) is not int or size < 0:
            raise _Malformed(f"the size of {file} of {name} is {size!r}, expected a number of bytes")
        files[file] = LockedFile(digest, size)
    return LockedWeights(fields["source"], commit, files)


def _table(value: Any, what: str, keys: Iterable[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Malformed(f"{what} is no table")
    if keys is not None and set(value) != set(keys):
        raise _Malformed(f"{what} has {', '.join(sorted(value)) or 'nothing'}, expected {', '.join(keys)}")
    return value


def _to_dict(locked: LockedWeights) -> dict[str, Any]:
    files = {name: {"sha256": file.sha256, "size": file.size} for name, file in locked.files.items()}
    return {"source": locked.source, "commit": locked.commit, "files": files}


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
