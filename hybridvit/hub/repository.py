"""A model repository on disk: a bare git repository, with its large files beside it under their sha256.

Git keeps a pointer in place of a large file, in the format of Git LFS, and the content lies where Git LFS keeps it.
Every write is prepared aside and takes effect in one step: a rename, or the update of a ref, which git refuses when the
ref no longer has the value we read.
"""

import hashlib
import os
import re
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any

from hybridvit.hub.errors import HubError, bad_request, not_found

DEFAULT_BRANCH = "main"
USER = "local"  # the one user of the Hub: owns its token and signs its commits
LARGE_FILE_SUFFIXES = (".bin", ".ckpt", ".h5", ".msgpack", ".npz", ".onnx", ".pt", ".pth", ".safetensors", ".tflite")

_ABSENT = "0" * 40  # how git spells "this ref does not exist"
_DIRECTORY_MODE = "040000"
_FILE_MODE = "100644"
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
_POINTER_PATTERN = re.compile(_POINTER.format(sha256="([0-9a-f]{64})", size="([0-9]+)").encode())
_LARGEST_POINTER = 200
_CHUNK = 1 << 20

# Neither the user's git configuration nor a git hook that runs us may change what git does here.
_GIT_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": USER,
    "GIT_AUTHOR_EMAIL": f"{USER}@localhost",
    "GIT_COMMITTER_NAME": USER,
    "GIT_COMMITTER_EMAIL": f"{USER}@localhost",
    "LC_ALL": "C",
    "TZ": "UTC",
}


class GitError(RuntimeError):
    """A git command failed; the message is what git printed."""


@dataclass(frozen=True)
class Entry:
    """A file or directory of a commit; `size` is that of the content, `sha256` is set for a large file alone."""

    path: str
    mode: str
    oid: str  # of the git object: for a large file, of its pointer
    size: int
    sha256: str | None = None
    pointer_size: int | None = None

    @property
    def is_directory(self) -> bool:
        return self.mode == _DIRECTORY_MODE

    @property
    def etag(self) -> str:
        """Names the content in a client's cache."""
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Change:
    """Writes the content to a path; deletes it where the content is None, a whole folder if the path ends in "/"."""

    path: str
    content: bytes | None


class Repository:
    """A bare git repository at `path`. A commit is named by its sha; a revision is a commit, branch, tag or ref."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._private_marker = path / "private"

    @classmethod
    def initialise(cls, path: Path, private: bool) -> None:
        """Makes a repository whose first commit tells git which files are large, as the Hub does."""
        repository = cls(path)
        repository._git("init", "--quiet", "--bare", f"--initial-branch={DEFAULT_BRANCH}", str(path))
        if private:
            repository._private_marker.touch()
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_FILE_SUFFIXES)
        tree = repository._write_tree({}, [Change(".gitattributes", attributes.encode())])
        commit = repository._write_commit(tree, [], "initial commit")
        repository._move_ref(f"refs/heads/{DEFAULT_BRANCH}", commit, _ABSENT)

    @property
    def is_private(self) -> bool:
        return self._private_marker.exists()

    # Reading

    def refs(self) -> dict[str, str]:
        """Full ref name -> commit."""
        lines = self._git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)").decode().splitlines()
        fields = [line.split(" ") for line in lines]
        return {name: target_of_tag or target for name, target, target_of_tag in fields}

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag, a full ref name or a sha (at least 7 digits of it) names."""
        refs = self.refs()
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in refs:
                return refs[name]
        if re.fullmatch("[0-9a-f]{7,40}", revision):
            with suppress(GitError):
                return self._git("rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}").decode().strip()
        raise not_found("RevisionNotFound", f"no branch, tag or commit {revision!r}")

    def tree(self, commit: str) -> dict[str, Entry]:
        """Path -> entry of every file and directory of a commit."""
        entries = {}
        for line in self._git("ls-tree", "-r", "-t", "-l", "-z", commit).decode().split("\0")[:-1]:
            attributes, path = line.split("\t", 1)
            mode, _, oid, size = attributes.split()
            entries[path] = Entry(path, mode, oid, 0 if size == "-" else int(size))
        small = [entry for entry in entries.values() if not entry.is_directory and entry.size <= _LARGEST_POINTER]
        for entry, content in zip(small, self._read_all([entry.oid for entry in small]), strict=True):
            # A pointer that somebody committed as text, without the content, stays the text it is.
            if (match := _POINTER_PATTERN.fullmatch(content)) and self.large_file(sha256 := match[1].decode()).exists():
                size = int(match[2])
                entries[entry.path] = replace(entry, sha256=sha256, size=size, pointer_size=entry.size)
        return entries

    def read(self, oid: str) -> bytes:
        return self._git("cat-file", "blob", oid)

    def log(self, commit: str) -> list[dict[str, Any]]:
        """The commits that lead to this one, newest first, as the client reads them."""
        layout = "".join(f"{field}%x00" for field in ("%H", "%an", "%ad", "%s", "%b"))
        log = self._git("log", f"--format={layout}", "--date=format:%Y-%m-%dT%H:%M:%S.000Z", commit).decode()
        fields = iter([field.strip("\n") for field in log.split("\0")])
        return [
            {"id": sha, "authors": [{"user": author}], "date": date, "title": title, "message": message}
            for sha, author, date, title, message in zip(fields, fields, fields, fields, fields, strict=False)
        ]

    # Large files

    def large_file(self, sha256: str) -> Path:
        """Where the large file lies, or would lie."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise bad_request(f"{sha256!r} is not a sha256")
        return self.path / "lfs" / "objects" / sha256[:2] / sha256[2:4] / sha256

    def store_large_file(self, source: Any, sha256: str, size: int) -> None:
        """Reads `size` bytes from `source` and keeps them if they have this sha256, else raises `HubError`."""
        target = self.large_file(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, incoming = tempfile.mkstemp(dir=target.parent, prefix="incoming-")
        try:
            digest, left = hashlib.sha256(), size
            with open(handle, "wb") as file:
                while left and (chunk := source.read(min(left, _CHUNK))):
                    digest.update(chunk)
                    file.write(chunk)
                    left -= len(chunk)
                if left or digest.hexdigest() != sha256:
                    raise bad_request(f"this is not the file of {size} bytes with sha256 {sha256}: upload it again")
                file.flush()
                os.fsync(file.fileno())
            os.replace(incoming, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(incoming)

    def pointer(self, sha256: str) -> bytes:
        """What git holds in place of a large file that was stored before."""
        content = self.large_file(sha256)
        if not content.exists():
            raise bad_request(f"the content with sha256 {sha256} was not uploaded: push again")
        return _POINTER.format(sha256=sha256, size=content.stat().st_size).encode()

    # Writing

    def commit(self, branch: str, changes: list[Change], message: str, parent: str | None) -> str:
        """Commits on a branch and returns the commit, the present one if nothing changes.

        Raises 412 if the branch is not at `parent`, or moved while we worked; then nothing has changed.
        """
        ref = branch if branch.startswith(("refs/heads/", "refs/pr/")) else f"refs/heads/{branch}"
        head = self.refs().get(ref)
        if head is None:
            raise not_found("RevisionNotFound", f"no branch {branch!r}")
        if parent and not head.startswith(parent):
            raise HubError(
                HTTPStatus.PRECONDITION_FAILED, f"{branch!r} is at {head}, not at {parent}: pull, push again"
            )
        tree = self._write_tree(self.tree(head), changes)
        if tree == self._git("rev-parse", f"{head}^{{tree}}").decode().strip():
            return head
        commit = self._write_commit(tree, [head], message)
        try:
            self._move_ref(ref, commit, expected=head)
        except GitError as error:
            raise _stale(f"{branch!r} moved meanwhile: pull, then push again ({error})") from error
        return commit

    def open_pull_request(self, revision: str, changes: list[Change], message: str) -> tuple[str, int]:
        """Commits on top of a revision without moving it, at refs/pr/N; returns the commit and N."""
        base = self.resolve(revision)
        number = 1 + sum(name.startswith("refs/pr/") for name in self.refs())
        commit = self._write_commit(self._write_tree(self.tree(base), changes), [base], message)
        try:
            self._move_ref(f"refs/pr/{number}", commit, _ABSENT)
        except GitError as error:
            raise _stale(f"pull request {number} was opened meanwhile: push again ({error})") from error
        return commit, number

    def create_branch(self, name: str, revision: str) -> None:
        self._create_ref("heads", name, self.resolve(revision))

    def create_tag(self, name: str, revision: str, message: str | None) -> None:
        target = self.resolve(revision)
        if message:
            tagger = f"{USER} <{USER}@localhost> {int(time.time())} +0000"
            tag = f"object {target}\ntype commit\ntag {name}\ntagger {tagger}\n\n{message}\n"
            target = self._git("mktag", stdin=tag.encode()).decode().strip()
        self._create_ref("tags", name, target)

    def delete_ref(self, kind: str, name: str) -> None:
        """Deletes a branch (`kind` "heads") or a tag ("tags")."""
        if (kind, name) == ("heads", DEFAULT_BRANCH):
            raise bad_request(f"{DEFAULT_BRANCH!r} is the default branch and stays")
        ref = f"refs/{kind}/{name}"
        if ref not in self.refs():
            raise not_found("RevisionNotFound", f"no {ref}")
        self._git("update-ref", "-d", ref)

    def _create_ref(self, kind: str, name: str, target: str) -> None:
        ref = f"refs/{kind}/{name}"
        if name.startswith("refs/") or self._run("check-ref-format", ref).returncode:
            raise bad_request(f"{name!r} is not a name for a branch or tag")
        try:
            self._move_ref(ref, target, _ABSENT)
        except GitError as error:
            raise HubError(
                HTTPStatus.CONFLICT, f"{ref} exists, or is the folder of another: take a new name"
            ) from error

    def _move_ref(self, ref: str, target: str, expected: str) -> None:
        self._git("update-ref", ref, target, expected)

    def _write_tree(self, base: dict[str, Entry], changes: list[Change]) -> str:
        """Applies changes, in order, to the files of `base`; returns the new tree."""
        files = {entry.path: (entry.mode, entry.oid) for entry in base.values() if not entry.is_directory}
        with tempfile.TemporaryDirectory(dir=self.path, prefix="incoming-") as scratch:
            contents = [change.content for change in changes if change.content is not None]
            oids = iter(self._write_blobs(contents, Path(scratch)))
            for change in changes:
                if change.content is not None:
                    files[change.path] = (_FILE_MODE, next(oids))
                    continue
                is_folder = change.path.endswith("/")
                gone = [path for path in files if path == change.path or (is_folder and path.startswith(change.path))]
                if not gone:
                    raise not_found("EntryNotFound", f"A file with this name doesn't exist: {change.path!r}")
                for path in gone:
                    del files[path]
            for path in files:
                for folder in map(str, PurePosixPath(path).parents):
                    if folder in files:
                        raise bad_request(f"{folder!r} cannot be both a file and the folder of {path!r}")
            listing = "".join(f"{mode} {oid}\t{path}\0" for path, (mode, oid) in files.items()).encode()
            index = str(Path(scratch) / "index")
            done = self._run("update-index", "-z", "--index-info", stdin=listing, GIT_INDEX_FILE=index)
            # A path that git refuses ("../x", ".git/config") it leaves out, says so, and succeeds.
            if done.returncode or done.stderr:
                raise bad_request(f"git refuses this commit: {done.stderr.decode().strip()}")
            return self._git("write-tree", GIT_INDEX_FILE=index).decode().strip()

    def _write_blobs(self, contents: list[bytes], scratch: Path) -> list[str]:
        paths = [scratch / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        names = "".join(f"{path}\n" for path in paths).encode()
        return self._git("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names).decode().split()

    def _write_commit(self, tree: str, parents: list[str], message: str) -> str:
        options = [option for parent in parents for option in ("-p", parent)]
        return self._git("commit-tree", tree, *options, stdin=message.encode()).decode().strip()

    # Git

    def _read_all(self, oids: list[str]) -> list[bytes]:
        stream = self._git("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in oids).encode())
        contents, start = [], 0
        for _ in oids:
            end_of_head = stream.index(b"\n", start)
            size = int(stream[start:end_of_head].split()[2])
            contents.append(stream[end_of_head + 1 : end_of_head + 1 + size])
            start = end_of_head + size + 2
        return contents

    def _git(self, *arguments: str, stdin: bytes = b"", **environment: str) -> bytes:
        done = self._run(*arguments, stdin=stdin, **environment)
        if done.returncode:
            raise GitError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def _run(self, *arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        command = ["git", f"--git-dir={self.path}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, env=_GIT_ENVIRONMENT | environment)


def _stale(message: str) -> HubError:
    return HubError(HTTPStatus.PRECONDITION_FAILED, message)
