"""The repositories of a Hub, in `ROOT/models/NAMESPACE/NAME.git`; each is made and removed in one step."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from hybridvit.hub.errors import HubError, bad_request, not_found
from hybridvit.hub.repository import Repository

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LONGEST_ID = 96


class Repositories:
    """The repositories under a directory, by id: "namespace/name"."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._models = root / "models"
        self._models.mkdir(parents=True, exist_ok=True)

    def find(self, repo_id: str) -> Repository:
        if not _is_valid(repo_id) or not self._path(repo_id).is_dir():
            raise not_found("RepoNotFound", f"no repository {repo_id!r}")
        return Repository(self._path(repo_id))

    def create(self, repo_id: str, private: bool) -> None:
        if not _is_valid(repo_id):
            raise bad_request(
                f"{repo_id!r} is not a repository id: give namespace/name, at most {_LONGEST_ID} letters, digits and "
                "single '-', '_' or '.' between them, without '.git' at the end"
            )
        path = self._path(repo_id)
        path.parent.mkdir(exist_ok=True)
        with self._scratch() as scratch:
            Repository.initialise(scratch / "repository", private)
            try:
                os.rename(scratch / "repository", path)
            except OSError as error:  # as it is when there is a directory with files in it
                if not path.is_dir():
                    raise
                raise HubError(HTTPStatus.CONFLICT, f"the repository {repo_id!r} exists already") from error

    def delete(self, repo_id: str) -> None:
        with self._scratch() as scratch:
            os.rename(self.find(repo_id).path, scratch / "repository")

    def __iter__(self) -> Iterator[tuple[str, Repository]]:
        for path in sorted(self._models.glob("*/*.git")):
            yield f"{path.parent.name}/{path.stem}", Repository(path)

    def _path(self, repo_id: str) -> Path:
        return self._models / f"{repo_id}.git"

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        scratch = Path(tempfile.mkdtemp(dir=self._root, prefix="incoming-"))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)


def _is_valid(repo_id: str) -> bool:
    names = repo_id.split("/")
    has_form = len(names) == 2 and len(repo_id) <= _LONGEST_ID and all(map(_NAME.fullmatch, names))
    return has_form and not re.search(r"--|\.\.|\.git$", repo_id)
