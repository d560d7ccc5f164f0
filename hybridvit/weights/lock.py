"""Lock names to the weights that they stand for now, and check what is on this machine against a lock file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from .. import limits
from .cache import check_cached
from .exclusive import alone
from .load import load_recorded
from .lock_file import Lock, LockedWeights, read_lock
from .resolve import AddressedFile, Recorded, find_place, looked_at, read_at_once
from .sources import Files, HubFiles, LocalFiles, PartialWeightsWarning


def lock(
    names: str | Path | Sequence[str | Path],
    file: str | Path,
    *,
    model: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    allow_pickle: bool = False,
) -> dict[str, LockedWeights]:
    """Add names to a lock file, or lock them to what they are now. Returns what they are locked to.

    Each is loaded once, so that what is locked is what a load takes. The other names in the file stay as they are.

    Args:
        names: as `create_model` takes them, or directories and weight files by their paths.
        file: the lock file, made if need be, with its directory; it is replaced as a whole once everything is there.
            Several processes may add to it at once.
        model: the architecture of weight files that are not recognised by themselves.
        cache_dir: of huggingface_hub; by default the one that its variables name.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: for private repositories; by default the one that is logged in.
        allow_pickle: lock pickled files too.

    Raises:
        LockError: for a file that is there and is no lock file.
        OSError: if it cannot be written; it is as it was before then.
            Otherwise as `create_model`.
    """
    path = Path(file).expanduser()
    _read_or_new(path)
    _check_writable(path)
    added: dict[str, LockedWeights] = {}
    for name in [names] if isinstance(names, str | Path) else names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PartialWeightsWarning)
            made = load_recorded(
                name, model, cache_dir=cache_dir, endpoint=endpoint, token=token, allow_pickle=allow_pickle
            )
        resolved = made.resolved
        assert resolved is not None
        for each in resolved.files:
            check_cached(each.path, resolved.name)
        added[resolved.name] = LockedWeights.of(resolved)
    with alone(path, limits.PATIENCE):
        _read_or_new(path).with_weights(added).write()
    return added


def _read_or_new(path: Path) -> Lock:
    return read_lock(path) if path.exists() else Lock(path, {})


def _check_writable(path: Path) -> None:
    """Makes the directory of a lock file. Raises OSError if the file could not be written there."""
    directory = Path(os.path.realpath(path)).parent
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK):
        raise PermissionError(f"{path} cannot be written: {directory} is read-only; name another place for it")


def check_lock(file: str | Path, *, cache_dir: str | Path | None = None) -> dict[str, str | None]:
    """What is wrong with the files on this machine that a lock file names: a message a name, None if all is well.

    Nothing is downloaded: files of the Hub are looked up in the cache, and an empty message says that some are not
    there. Raises FileNotFoundError or LockError if there is no lock file that can be read.
    """
    held = read_lock(file)
    return {name: _verdict(held, name, locked, cache_dir) for name, locked in sorted(held.weights.items())}


def _verdict(held: Lock, name: str, locked: LockedWeights, cache_dir: str | Path | None) -> str | None:
    try:
        is_file = locked.source.startswith("file:")
        place = find_place(name, locked.source.removeprefix("file:") if is_file else None, {"cache_dir": cache_dir})
        if isinstance(place.files, HubFiles | AddressedFile):
            held.of(name, place.source)
            for each in locked.files:
                path = _cached(place.files, each, locked)
                if path is None:
                    return ""
                held.check(name, locked, each, path)
        else:
            read_at_once(place, _compare, held.path)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _compare(files: Recorded) -> None:
    """Raises LockError for files of a place on this machine that are not those of the lock that they are read under."""
    assert files.locked is not None
    known = files.locked.files
    for each in known:
        files.get(each)
    if isinstance(files.files, LocalFiles):
        for each in looked_at(files.files, known):
            files.get(each)


def _cached(files: Files, name: str, locked: LockedWeights) -> Path | None:
    """A locked file of the Hub or of an address, if it is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    if isinstance(files, AddressedFile):
        return files.cached(name)
    assert isinstance(files, HubFiles)
    path = try_to_load_from_cache(files.repository, name, cache_dir=files.cache_dir, revision=locked.commit)
    return Path(path) if isinstance(path, str) else None
