"""Lock names to the weights that they stand for now, and check what is on this machine against a lock file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from .cache import check_cached
from .load import create_model, full_name
from .lock_file import Lock, LockedWeights, read_lock
from .resolve import find_place
from .sources import HubFiles, PartialWeightsWarning


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
        file: the lock file, made if need be; it is replaced as a whole once everything is there.
        model: the architecture of weight files that are not recognised by themselves.
        cache_dir: of huggingface_hub; by default the one that its variables name.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: for private repositories; by default the one that is logged in.
        allow_pickle: lock pickled files too.

    Raises:
        LockError: for a file that is there and is no lock file.
        OSError: if it cannot be written; it is as it was before then.
        and as `create_model` does.
    """
    path = Path(file).expanduser()
    before = read_lock(path) if path.exists() else Lock(path, {})
    added: dict[str, LockedWeights] = {}
    for name in [names] if isinstance(names, str | Path) else names:
        hub = {"cache_dir": cache_dir, "endpoint": endpoint, "token": token}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PartialWeightsWarning)
            if model is None:
                made = create_model(full_name(name), pretrained=True, allow_pickle=allow_pickle, **hub)
            else:
                made = create_model(model, file=name, allow_pickle=allow_pickle, **hub)
        resolved = made.resolved
        assert resolved is not None
        for each in resolved.files:
            check_cached(each.path, resolved.name)
        added[resolved.name] = LockedWeights.of(resolved)
    before.with_weights(added).write()
    return added


def check_lock(file: str | Path, *, cache_dir: str | Path | None = None) -> dict[str, str | None]:
    """What is wrong with the files on this machine that a lock file names: a message a name, None if all is well.

    Nothing is downloaded: files of the Hub are looked up in the cache, and an empty message says that some are not
    there. Raises FileNotFoundError or LockError if there is no lock file that can be read.
    """
    held = read_lock(file)
    return {name: _verdict(held, name, locked, cache_dir) for name, locked in sorted(held.weights.items())}


def _verdict(held: Lock, name: str, locked: LockedWeights, cache_dir: str | Path | None) -> str | None:
    try:
        place = find_place(name, None, {"cache_dir": cache_dir})
        held.of(name, place.source)
        files = _cached(place.files, locked) if isinstance(place.files, HubFiles) else None
        for each in locked.files:
            path = files[each] if files else place.files.get(each)
            if path is None and files:
                return ""
            held.check(name, locked, each, path)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _cached(files: HubFiles, locked: LockedWeights) -> dict[str, Path | None]:
    """The locked files of a repository that are in the cache."""
    from huggingface_hub import try_to_load_from_cache

    paths = {
        name: try_to_load_from_cache(files.repository, name, cache_dir=files.cache_dir, revision=locked.commit)
        for name in locked.files
    }
    return {name: Path(path) if isinstance(path, str) else None for name, path in paths.items()}
