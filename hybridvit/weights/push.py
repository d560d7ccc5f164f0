"""Push a model to the Hub, and pull a repository into a directory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sources import HUB, PENDING, WeightsNotFoundError, explained, hub_files
from .store import CARD, CONFIG, STAGING, WEIGHTS, save_pretrained
from .transport import persistently

if TYPE_CHECKING:
    from ..encoder import Encoder


# What a directory keeps of a save and of a download: files of these names in a repository would pass for it.
NOT_A_REPOSITORYS = [f"{PENDING}/*", f"{STAGING}/*", ".cache/huggingface/*"]


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
        repo_id: ORG/NAME.
        private: make a new repository private.
        revision: a branch, created if need be; by default the main one.
        commit_message: title of the commit.
        create_pr: open a pull request instead of committing to the branch.
        endpoint: address of the Hub; by default HF_ENDPOINT or huggingface.co.
        token: that may write; by default the one that is logged in.
        facts: what the card should say besides: licence, datasets, metrics, description, base_model.

    A model that has not changed since the last push makes no commit.

    Raises:
        WeightsNotFoundError: with the reason, if the Hub cannot be reached or refuses. Nothing has been changed there
            then but that the repository may be new.
    """
    from huggingface_hub import HfApi

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
    endpoint: str | None = None,
    token: str | None = None,
) -> Path:
    """Download `ORG/NAME[@REVISION]` into a directory, from which `local-dir:` loads it."""
    from huggingface_hub import HfApi, snapshot_download

    files = hub_files(name.removeprefix(HUB), revision=revision, endpoint=endpoint, token=token)
    target = Path(directory)
    if target.exists() and not target.is_dir():
        raise WeightsNotFoundError(f"{target} is a file; name a directory")
    with explained(files):
        # Asked first, because the download takes a directory that holds anything for an answer if the Hub gives none.
        commit = HfApi(endpoint=endpoint, token=token).model_info(files.repository, revision=files.revision).sha
        persistently(
            lambda: snapshot_download(
                files.repository,
                revision=commit,
                local_dir=target,
                endpoint=endpoint,
                token=token,
                ignore_patterns=NOT_A_REPOSITORYS,
            )
        )
    return target
