"""Push a model to the Hub, and pull a repository into a directory."""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..resolved import Resolved, ResolvedFile, sha256_of
from .cache import CLOCK_SLACK, check_cached, promised_digest
from .errors import WeightsError
from .resolve import SUFFIXES, looked_at
from .shards import shards_of
from .sources import (
    HUB,
    PENDING,
    HubFiles,
    LocalFiles,
    WeightsNotFoundError,
    WeightsWarning,
    explained,
    hub_files,
    read_note,
)
from .store import CARD, CONFIG, PICKLE, STAGING, WEIGHTS, finish_pending, is_intact, publish, save_pretrained
from .transport import persistently

if TYPE_CHECKING:
    from ..encoder import Encoder


# Where a pull keeps its files in a directory until all of them are there.
PULLING = ".pulling"
# What a directory keeps of a save and of a download: files of these names in a repository would pass for it.
NOT_A_REPOSITORYS = [
    pattern for name in (PENDING, STAGING, PULLING, ".cache/huggingface") for pattern in (name, f"{name}/*")
] + [f"{STAGING}-*", ".cache"]

# The name of one of several files of weights, which are listed in an index.
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")


def push_to_hub(
    model: Encoder,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
    **facts: Any,
) -> str:
    """Save a model and push it as `ORG/NAME`, which is created if need be. Returns the commit's URL.

    Args:
        model: any model, with whatever `preprocess`, `labels` and `origin` it has.
        repo_id: ORG/NAME, also after `hf-hub:`.
        private: make a new repository private.
        revision: a branch, created if need be; by default the main one.
        commit_message: title of the commit.
        create_pr: open a pull request against the main branch instead of committing to it; not with another `revision`.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: that may write; by default the one that is logged in.
        facts: what the card should say besides: licence, datasets, metrics, description, base_model. They are saved
            with the model's origin, so that the card of a loaded model says the same.

    A model that has not changed since the last push makes no commit.

    Raises:
        WeightsNotFoundError: with the reason, if the Hub cannot be reached or refuses. Nothing has been changed there
            then but that the repository may be new.
        ValueError: for a name with a revision, and for both a branch and a pull request.
    """
    from huggingface_hub import HfApi

    repo_id = repo_id.removeprefix(HUB)
    name, at, branch = repo_id.partition("@")
    if at:
        raise ValueError(f"{repo_id!r} names a revision; push to {name!r} with revision={branch!r}")
    if create_pr and revision not in (None, "main"):
        raise ValueError(
            f"create_pr=True opens a pull request against the main branch, and revision={revision!r} is another one; "
            "leave one of the two out"
        )
    if [bool(part) for part in repo_id.split("/")] != [True, True]:  # the Hub would choose an owner
        raise WeightsNotFoundError(f"{repo_id!r} is no repository name: it looks like ORG/NAME")
    api = HfApi(endpoint=endpoint, token=token)
    files = hub_files(repo_id, revision=revision, endpoint=endpoint, token=token)
    with tempfile.TemporaryDirectory(prefix="hybridvit-push-") as directory:
        save_pretrained(model, directory, repository=repo_id, **facts)
        with explained(files):
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None and not create_pr:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=directory,
                allow_patterns=[CONFIG, WEIGHTS, CARD],
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message or "Push model with hybridvit",
            )
    return commit.commit_url


def pull_from_hub(
    name: str,
    directory: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> Path:
    """Download `ORG/NAME[@REVISION]` into a directory, from which `local-dir:` loads it.

    What the cache of huggingface_hub has of it is taken from there; with HF_HUB_OFFLINE that is all there is. Files of
    an earlier pull that the commit has not are removed, offline only where a load would read them; others stay, and a
    WeightsWarning names those that a load would read.

    Raises:
        WeightsNotFoundError: with the reason, if it cannot be had.
        FileExistsError: for a file of yours where it has a folder, or the reverse.
        WeightsError: for a file that arrived damaged, which is removed.
    """
    pull(name, directory, revision=revision, cache_dir=cache_dir, endpoint=endpoint, token=token)
    return Path(directory).expanduser()


def pull(
    name: str,
    directory: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> Resolved:
    """As `pull_from_hub`, and gives what was pulled."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.utils import WeakFileLock, filter_repo_objects

    files = hub_files(name.removeprefix(HUB), revision=revision, cache_dir=cache_dir, endpoint=endpoint, token=token)
    target = Path(directory).expanduser()
    if target.exists() and not target.is_dir():
        raise WeightsNotFoundError(f"{target} is a file; name a directory")
    notes = target / ".cache" / "huggingface"
    if constants.HF_HUB_OFFLINE:
        with explained(files):
            cached = snapshot_download(
                files.repository, revision=files.revision, cache_dir=cache_dir, local_files_only=True
            )
        files.commit = Path(cached).name
        _check_whole(Path(cached), files)
        with explained(files):
            notes.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(notes / "pull.lock"):
            digests = _copied(Path(cached), target, files)
    else:
        with explained(files):
            # Asked first, because the download takes a directory that holds anything for an answer if the Hub gives
            # none.
            found = HfApi(endpoint=endpoint, token=token).model_info(
                files.repository, revision=files.revision, files_metadata=True
            )
        _refuse_outside([each.rfilename for each in found.siblings or ()], files)
        with explained(files):
            notes.mkdir(parents=True, exist_ok=True)
        files.commit = found.sha
        kept = filter_repo_objects(
            found.siblings or (), ignore_patterns=NOT_A_REPOSITORYS, key=lambda each: each.rfilename
        )
        digests = {each.rfilename: each.lfs.sha256 if each.lfs else each.blob_id for each in kept}
        with WeakFileLock(notes / "pull.lock"):  # of several processes one pulls, and the others find it done
            finish_pending(target)
            missing = {name: digest for name, digest in digests.items() if not is_intact(target / name, digest)}
            noted, _ = read_note(target)
            if missing or noted.keys() != digests.keys() or any(noted[each] != digests[each] for each in noted):
                _pull_missing(files, target, missing, digests, cache_dir)
    _warn_of_others(LocalFiles(target), digests)
    pulled = [
        ResolvedFile.of(each, target / each, promised if promised and len(promised) == 64 else None)
        for each, promised in digests.items()
    ]
    place = f"hf:{files.repository}"
    return Resolved(name=f"{HUB}{files.where}", source=place, commit=files.commit, files=tuple(pulled), layout="")


def _warn_of_others(files: LocalFiles, pulled: Mapping[str, str | None]) -> None:
    earlier, _ = read_note(files.directory)
    others = [
        each
        for each in looked_at(files, pulled)
        if each not in pulled
        and files.get(each)
        and not (each in earlier and is_intact(files.directory / each, earlier[each]))
    ]
    if others:
        warnings.warn(
            f"{files.where} also has {', '.join(others)}, which is not of the commit and was not pulled or has been "
            "changed since; local-dir: loads it with what was pulled, or instead: move it away if you want the commit",
            WeightsWarning,
            stacklevel=4,
        )


def _refuse_outside(names: list[str], files: HubFiles) -> None:
    for name in names:
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise WeightsError(f"{files.where} has a file {name!r}, which would lie outside the directory; not pulled")


def _pull_missing(
    files: HubFiles,
    target: Path,
    missing: Mapping[str, str | None],
    digests: Mapping[str, str | None],
    cache_dir: str | Path | None,
) -> None:
    """Downloads files beside those of the directory, where a later try goes on, and puts them there once all are whole.

    Files of an earlier pull that are not among the `digests`, of the whole commit, are removed at the same moment.
    Until then the directory is as it was, and from then on a reader finds all of them there (see `publish`).
    """
    from huggingface_hub import snapshot_download

    staging, started = target / PULLING, time.time()
    clients = staging / ".cache" / "huggingface"
    for path in sorted(staging.rglob("*"), reverse=True):  # what an earlier try left there, at another commit
        if path == clients or clients in path.parents:
            continue
        if not path.is_dir() and path.relative_to(staging).as_posix() not in missing:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if missing:
        there = [glob.escape(name) for name in digests.keys() - missing.keys()]
        with explained(files):
            persistently(
                lambda: snapshot_download(
                    files.repository,
                    revision=files.commit,
                    local_dir=staging,
                    cache_dir=cache_dir,
                    endpoint=files.endpoint,
                    token=files.token,
                    ignore_patterns=[*NOT_A_REPOSITORYS, *there],
                )
            )
    for name, digest in missing.items():
        _check_pulled(staging / name, digest, files, target, started)
    shutil.rmtree(clients, ignore_errors=True)
    publish(
        staging,
        target,
        {
            name: digest or sha256_of((staging if name in missing else target) / name)
            for name, digest in digests.items()
        },
    )


def _check_pulled(path: Path, digest: str | None, files: HubFiles, target: Path, since: float) -> None:
    """Raises WeightsError for a file with another digest, and removes it if it has been written `since`.

    An older one is of an earlier try: the client leaves it there, and says nothing, if the Hub stops answering.
    """
    if is_intact(path, digest):
        return
    if not path.is_file() or path.stat().st_mtime < since - CLOCK_SLACK:
        raise WeightsNotFoundError(f"{path.name} of {files.where} did not arrive in {target}; pull again")
    path.unlink()
    raise WeightsError(
        f"{path.name} of {files.where} was damaged on its way: its bytes have not the digest {digest}. It is removed; "
        "pull again"
    )


def _check_whole(snapshot: Path, files: HubFiles) -> None:
    """Raises WeightsNotFoundError if the cache lacks files of a commit without which it cannot be loaded.

    It does not know what else the commit has.
    """
    from huggingface_hub import try_to_load_from_cache

    there = sorted(each.relative_to(snapshot).as_posix() for each in snapshot.rglob("*") if each.is_file())
    config = try_to_load_from_cache(files.repository, CONFIG, cache_dir=files.cache_dir, revision=files.commit)
    lacking = [] if CONFIG in there or config is not None else [CONFIG]  # it may know that there is none
    if WEIGHTS not in there and PICKLE not in there:
        indices = [each for each in (f"{WEIGHTS}.index.json", f"{PICKLE}.index.json") if each in there]
        if indices:
            lacking += [each for each in shards_of(snapshot / indices[0], files.where) if each not in there]
        elif not any(each.endswith(SUFFIXES) and not SHARD.search(each) for each in there):
            lacking.append(WEIGHTS)
    if lacking:
        raise WeightsNotFoundError(
            f"the cache holds only a part of {files.where} and HF_HUB_OFFLINE is set: it has "
            f"{', '.join(there) or 'nothing'}, and lacks {', '.join(lacking)}; connect once and load it"
        )


def _copied(snapshot: Path, target: Path, files: HubFiles) -> dict[str, str | None]:
    """Copies a commit's files from the cache, all or none. Gives their digests by their names.

    The commit may have more, so that only those files of another one are removed that a load would read instead.
    """
    from huggingface_hub.utils import filter_repo_objects

    finish_pending(target)
    staging, digests = target / PULLING, dict[str, str | None]()
    shutil.rmtree(staging, ignore_errors=True)
    try:
        names = sorted(each.relative_to(snapshot).as_posix() for each in snapshot.rglob("*") if each.is_file())
        for name in filter_repo_objects(names, ignore_patterns=NOT_A_REPOSITORYS):
            path = snapshot / name
            check_cached(path, files.where)
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, staging / name)
            digests[name] = promised_digest(path)
        pulled = {each: digest or sha256_of(staging / each) for each, digest in digests.items()}
        is_the_same = pulled.items() <= read_note(target)[0].items()  # commit, all of which has been pulled before
        publish(staging, target, pulled, () if is_the_same else {*looked_at(LocalFiles(staging), digests)})
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return digests
