"""The loopback Hub under the unmodified huggingface_hub client."""

import errno
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import get_session

import hybridvit as hv
from hybridvit.hub import LoopbackHub, cards
from hybridvit.hub import api as hub_api
from hybridvit.hub.repository import Repository
from tests.hub.conftest import PROJECT, run_python
from tests.parity import images
from tests.weights.examples import facts, logits, tiny

REPO = "me/model"
WEIGHTS = bytes(range(256)) * 400
README = "---\nlibrary_name: timm\nlicense: mit\ntags:\n- image-classification\n- hybrid\n---\n# Model\n"


@pytest.fixture
def repo(api: HfApi) -> str:
    """A repository with a card, a config, a nested text file and large weights."""
    api.create_repo(REPO)
    api.create_commit(
        REPO,
        [
            CommitOperationAdd("README.md", README.encode()),
            CommitOperationAdd("config.json", b'{"depth": 2}'),
            CommitOperationAdd("logs/run 1/säule#1.txt", b"epoch 1"),
            CommitOperationAdd("model.safetensors", WEIGHTS),
        ],
        commit_message="Add the model",
        commit_description="Trained for a minute.",
    )
    return REPO


def git(hub: LoopbackHub, *arguments: str, repo_id: str = REPO) -> str:
    command = ["git", f"--git-dir={hub.root}/models/{repo_id}.git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def get(hub: LoopbackHub, path: str, **headers: str) -> Any:
    return get_session().get(hub.endpoint + path, headers=headers, follow_redirects=True)


def commit_lines(hub: LoopbackHub, *lines: str, revision: str = "main") -> Any:
    """Commits what the client would refuse to send."""
    header = '{"key": "header", "value": {"summary": "s", "description": ""}}'
    return get_session().post(
        f"{hub.endpoint}/api/models/{REPO}/commit/{revision}",
        content="\n".join([header, *lines]).encode(),
        headers={"Authorization": f"Bearer {hub.token}"},
    )


# Push and pull


def test_what_is_pushed_is_pulled_by_branch_tag_commit_and_prefix(api: HfApi, repo: str, tmp_path: Path) -> None:
    first = api.model_info(repo).sha
    assert first is not None
    api.create_tag(repo, tag="v1")
    api.upload_file(path_or_fileobj=b"new", path_in_repo="config.json", repo_id=repo)

    def config(revision: str | None) -> bytes:
        return Path(api.hf_hub_download(repo, "config.json", revision=revision, cache_dir=tmp_path)).read_bytes()

    assert config(None) == config("main") == b"new"
    assert config("v1") == config(first) == config("refs/tags/v1") == b'{"depth": 2}'
    assert api.model_info(repo, revision=first[:8]).sha == first
    assert Path(api.hf_hub_download(repo, "model.safetensors", cache_dir=tmp_path)).read_bytes() == WEIGHTS
    assert Path(api.hf_hub_download(repo, "logs/run 1/säule#1.txt", cache_dir=tmp_path)).read_bytes() == b"epoch 1"


def test_a_folder_comes_back_whole(api: HfApi, tmp_path: Path) -> None:
    files = {
        "a.txt": b"a",
        "deep/er/b.json": b"{}",
        "deep/weights.bin": WEIGHTS,
        "empty": b"",
        "big.txt": b"x" * 11_000_000,
    }
    for name, content in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=tmp_path / "in")
    out = Path(api.snapshot_download(REPO, cache_dir=tmp_path / "cache"))
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    del found[".gitattributes"]
    assert found == files
    large = {entry.rfilename for entry in api.model_info(REPO, files_metadata=True).siblings or [] if entry.lfs}
    assert large == {"deep/weights.bin", "big.txt"}


def test_the_repository_is_real_git(loopback_hub: LoopbackHub, repo: str, tmp_path: Path) -> None:
    assert git(loopback_hub, "log", "--format=%an: %s").splitlines() == [
        "local: Add the model",
        "local: initial commit",
    ]
    assert "Trained for a minute." in git(loopback_hub, "log", "-1", "--format=%b")
    git(loopback_hub, "fsck", "--strict")
    pointer = git(loopback_hub, "show", "main:model.safetensors")
    assert re.fullmatch(rf"version \S+\noid sha256:[0-9a-f]{{64}}\nsize {len(WEIGHTS)}\n", pointer)
    clone = ["git", "clone", "--quiet", f"{loopback_hub.root}/models/{repo}.git", str(tmp_path / "clone")]
    subprocess.run(clone, check=True, env=os.environ | {"GIT_LFS_SKIP_SMUDGE": "1"})
    assert (tmp_path / "clone" / "config.json").read_bytes() == b'{"depth": 2}'


def test_a_commit_by_git_is_served(api: HfApi, loopback_hub: LoopbackHub, repo: str) -> None:
    tree = git(loopback_hub, "rev-parse", "main:logs").strip()
    author = ["-c", "user.name=x", "-c", "user.email=x@x"]
    commit = git(loopback_hub, *author, "commit-tree", tree, "-p", "main", "-m", "by hand").strip()
    git(loopback_hub, "update-ref", "refs/heads/main", commit)
    assert api.list_repo_files(repo) == ["run 1/säule#1.txt"]
    assert api.list_repo_commits(repo)[0].title == "by hand"


def test_a_push_that_changes_nothing_commits_nothing(
    api: HfApi, loopback_hub: LoopbackHub, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = api.model_info(repo).sha
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "commit", None)  # the client is told enough to send no commit
        for path, content in (("config.json", b'{"depth": 2}'), ("model.safetensors", WEIGHTS)):
            assert api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo).oid == before
    same_config = '{"key": "file", "value": {"path": "config.json", "content": "eyJkZXB0aCI6IDJ9"}}'
    assert commit_lines(loopback_hub, same_config).json()["commitOid"] == before


def test_files_and_folders_are_deleted(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"x", path_in_repo="logs2.txt", repo_id=repo)
    operations = [CommitOperationDelete("config.json"), CommitOperationDelete("logs/")]
    api.create_commit(repo, operations, commit_message="Clean")
    assert set(api.list_repo_files(repo)) == {".gitattributes", "README.md", "logs2.txt", "model.safetensors"}
    for missing in ("config.json", "logs2"):
        with pytest.raises(EntryNotFoundError):
            api.delete_file(missing, repo)
    with pytest.raises(EntryNotFoundError):
        api.delete_folder("model", repo)


def test_a_pull_request_leaves_the_branch(api: HfApi, repo: str, tmp_path: Path) -> None:
    main = api.model_info(repo).sha
    for number in (1, 2):
        answer = api.upload_file(path_or_fileobj=b"pr", path_in_repo="config.json", repo_id=repo, create_pr=True)
        assert answer.pr_revision == f"refs/pr/{number}"
    api.upload_file(path_or_fileobj=b"more", path_in_repo="more", repo_id=repo, revision="refs/pr/1")
    assert api.model_info(repo).sha == main
    assert "more" in api.list_repo_files(repo, revision="refs/pr/1")
    path = api.hf_hub_download(repo, "config.json", revision="refs/pr/2", cache_dir=tmp_path)
    assert Path(path).read_bytes() == b"pr"


# Concurrent writers


def test_a_stale_parent_is_refused(api: HfApi, repo: str) -> None:
    old = api.model_info(repo).sha
    new = api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=repo, parent_commit=old).oid
    with pytest.raises(HfHubHTTPError, match="push again") as error:
        api.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id=repo, parent_commit=old)
    assert status_of(error) == 412
    assert api.model_info(repo).sha == new


def test_of_two_pushes_at_once_one_is_told(api: HfApi, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both_have_read_the_branch = threading.Barrier(2)
    write_commit = Repository._write_commit

    def wait_and_write(*arguments: Any) -> str:
        both_have_read_the_branch.wait(timeout=30)
        return write_commit(*arguments)

    def push(name: str) -> str | int:
        try:
            api.upload_file(path_or_fileobj=name.encode(), path_in_repo=name, repo_id=repo)
        except HfHubHTTPError as error:
            return error.response.status_code
        return name

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(Repository, "_write_commit", wait_and_write)
        outcomes = list(pool.map(push, ["a", "b"]))
    assert 412 in outcomes
    pushed = {"a", "b"} & set(outcomes)
    assert len(pushed) == 1
    assert {"a", "b"} & set(api.list_repo_files(repo)) == pushed
    (told,) = {"a", "b"} - pushed
    push(told)
    assert {"a", "b"} <= set(api.list_repo_files(repo))


def test_many_pushes_at_once_lose_nothing(api: HfApi, loopback_hub: LoopbackHub, repo: str) -> None:
    def push(number: int) -> int:
        for attempt in range(50):
            try:
                api.upload_file(path_or_fileobj=f"{number}".encode(), path_in_repo=f"n/{number}", repo_id=repo)
            except HfHubHTTPError as error:
                if error.response.status_code != 412:
                    raise
            else:
                return attempt
        raise AssertionError("never got through")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(push, range(12)))
    assert {f"n/{number}" for number in range(12)} <= set(api.list_repo_files(repo))
    assert len(api.list_repo_commits(repo)) == 2 + 12
    git(loopback_hub, "fsck", "--strict")


def test_one_of_many_makers_of_a_repository_makes_it(api: HfApi, loopback_hub: LoopbackHub) -> None:
    def create(_: int) -> bool:
        try:
            api.create_repo("me/new")
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(create, range(8))) == 1
    assert sorted(path.name for path in loopback_hub.root.iterdir()) == ["models", "token"]


# Looking up


def test_model_info_tells_what_the_card_says(api: HfApi, repo: str) -> None:
    info = api.model_info(repo, files_metadata=True)
    assert (info.id, info.author, info.private, info.library_name) == (repo, "me", False, "timm")
    assert info.tags == ["timm", "image-classification", "hybrid", "license:mit"]
    assert info.card_data is not None
    assert info.card_data.license == "mit"
    assert info.created_at is not None
    assert info.last_modified is not None
    assert info.created_at <= info.last_modified
    files = {file.rfilename: file for file in info.siblings or []}
    weights = files["model.safetensors"]
    assert weights.size == len(WEIGHTS)
    assert weights.lfs is not None
    assert weights.lfs.pointer_size < 200
    assert files["config.json"].size == 12
    assert files["config.json"].lfs is None


def test_a_broken_card_is_refused_by_the_client_and_survived_by_the_server(
    api: HfApi, loopback_hub: LoopbackHub, repo: str
) -> None:
    for broken in ("---\ntags: [\n---\n", "---\nlicense: mit\n", "---\njust words\n---\n"):
        with pytest.raises(ValueError, match="Invalid metadata"):
            api.upload_file(path_or_fileobj=broken.encode(), path_in_repo="README.md", repo_id=repo)
    answer = commit_lines(loopback_hub, '{"key": "file", "value": {"path": "README.md", "content": "LS0tCngKLS0t"}}')
    assert answer.is_success
    assert api.model_info(repo).tags == []
    assert [model.id for model in api.list_models()] == [repo]


@pytest.mark.parametrize("card", ["tags: &a [*a]", "a: &a [1]\nb: [*a, *a]", "2020-01-01: x", "a: " + "[" * 5000])
def test_metadata_that_is_no_json_is_refused(card: str) -> None:
    with pytest.raises(ValueError, match=r"alias|keys must be|recursion|parsing|expected"):
        cards.metadata(f"---\n{card}\n---\n")


def test_metadata_is_json_data() -> None:
    assert cards.metadata("---\nsince: 2020-01-01\n1: x\n---\n") == {"since": "2020-01-01", "1": "x"}


@pytest.mark.parametrize("query", ["cursor=x", "cursor=-1", "limit=many"])
def test_numbers_in_a_query_are_numbers(loopback_hub: LoopbackHub, query: str) -> None:
    answer = get_session().get(f"{loopback_hub.endpoint}/api/models?{query}")
    assert answer.status_code == 400
    assert "must be a number" in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x"])
def test_the_length_of_a_body_is_a_number(loopback_hub: LoopbackHub, length: str) -> None:
    host, _, port = loopback_hub.endpoint.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /api/validate-yaml HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_the_tree_is_listed_by_folder_and_page(api: HfApi, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_api, "PAGE_SIZE", 2)
    names = {entry.path: type(entry).__name__ for entry in api.list_repo_tree(repo)}
    assert names == {
        ".gitattributes": "RepoFile",
        "README.md": "RepoFile",
        "config.json": "RepoFile",
        "logs": "RepoFolder",
        "model.safetensors": "RepoFile",
    }
    assert [entry.path for entry in api.list_repo_tree(repo, "logs")] == ["logs/run 1"]
    assert len(list(api.list_repo_tree(repo, recursive=True))) == 7
    assert len(api.list_repo_commits(repo)) == 2
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "nowhere"))


def test_paths_and_existence(api: HfApi, repo: str) -> None:
    found = api.get_paths_info(repo, ["logs", "model.safetensors", "nowhere"])
    assert [entry.path for entry in found] == ["logs", "model.safetensors"]
    assert api.repo_exists(repo)
    assert not api.repo_exists("me/nothing")
    assert not api.repo_exists("nothing")
    assert api.file_exists(repo, "logs/run 1/säule#1.txt")
    assert not api.file_exists(repo, "logs")
    assert api.revision_exists(repo, "main")
    assert not api.revision_exists(repo, "no")


def test_what_is_missing_raises_its_own_exception(api: HfApi, repo: str, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("me/nothing", "config.json", cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(repo, "config.json", revision="no", cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.snapshot_download(repo, revision="0" * 40, cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError) as error:
        api.hf_hub_download(repo, "漢.txt", cache_dir=tmp_path)
    # With the commit the client remembers that the file does not exist, which transformers needs offline.
    assert error.value.response.headers["X-Repo-Commit"] == api.model_info(repo).sha
    with pytest.raises(RepositoryNotFoundError):
        api.upload_file(path_or_fileobj=b"", path_in_repo="a", repo_id="me/nothing")


def test_models_are_found(api: HfApi, anonymous: HfApi, repo: str) -> None:
    api.create_repo("me/other")
    api.create_repo("you/model-2")
    api.create_repo("you/secret", private=True)

    def found(**query: Any) -> set[str]:
        return {model.id for model in api.list_models(**query)}

    assert found() == {"me/model", "me/other", "you/model-2", "you/secret"}
    assert found(search="MODEL") == {"me/model", "you/model-2"}
    assert found(author="you") == {"you/model-2", "you/secret"}
    assert found(filter="timm") == found(filter=["timm", "hybrid"]) == {"me/model"}
    assert found(filter=["timm", "absent"]) == found(pipeline_tag="absent") == set()
    assert len(found(limit=3)) == 3
    assert "you/secret" not in {model.id for model in anonymous.list_models()}


def test_branches_and_tags(api: HfApi, repo: str) -> None:
    head = api.model_info(repo).sha
    first = api.list_repo_commits(repo)[-1].commit_id
    api.create_branch(repo, branch="exp/a", revision=first)
    api.create_tag(repo, tag="v1", tag_message="First release")
    api.create_tag(repo, tag="v0", revision="exp/a")
    for create in (lambda: api.create_branch(repo, branch="exp/a"), lambda: api.create_tag(repo, tag="v1")):
        with pytest.raises(HfHubHTTPError) as error:
            create()
        assert status_of(error) == 409
    api.create_branch(repo, branch="exp/a", exist_ok=True)
    refs = api.list_repo_refs(repo)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": head, "exp/a": first}
    assert {ref.ref: ref.target_commit for ref in refs.tags} == {"refs/tags/v1": head, "refs/tags/v0": first}
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="exp/a")
    assert set(api.list_repo_files(repo, revision="exp/a")) == {".gitattributes", "x"}
    assert api.model_info(repo).sha == head

    api.delete_branch(repo, branch="exp/a")
    api.delete_tag(repo, tag="v1")
    assert not api.revision_exists(repo, "exp/a")
    for forbidden in (lambda: api.delete_branch(repo, branch="main"), lambda: api.create_branch(repo, branch="a..b")):
        with pytest.raises(BadRequestError):
            forbidden()
    for missing in (
        lambda: api.delete_tag(repo, tag="v1"),
        lambda: api.create_tag(repo, tag="v2", revision="no"),
        lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="refs/tags/v0"),
    ):
        with pytest.raises(RevisionNotFoundError):
            missing()


# Repositories and who may see them


def test_repositories_are_created_and_deleted(api: HfApi, loopback_hub: LoopbackHub) -> None:
    url = api.create_repo(REPO)
    assert (url, url.repo_id) == (f"{loopback_hub.endpoint}/{REPO}", REPO)
    assert api.create_repo(REPO, exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="exists already"):
        api.create_repo(REPO)
    assert api.create_repo("bare").repo_id == "local/bare"
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(REPO)
    api.delete_repo(REPO, missing_ok=True)
    assert api.list_repo_files(api.create_repo(REPO).repo_id) == [".gitattributes"]
    with pytest.raises(BadRequestError, match="keeps models"):
        api.create_repo("me/data", repo_type="dataset")


@pytest.mark.parametrize("name", ["..", "a..b", "a--b", ".a", "a.git", "a/b", "../a", "", "a b", "x" * 96, "a\n"])
def test_odd_repository_names_are_refused(loopback_hub: LoopbackHub, name: str) -> None:
    answer = get_session().post(
        f"{loopback_hub.endpoint}/api/repos/create",
        json={"name": name, "organization": "me"},
        headers={"Authorization": f"Bearer {loopback_hub.token}"},
    )
    assert answer.status_code == 400
    assert "not a repository id" in answer.json()["error"]
    assert sorted(path.name for path in loopback_hub.root.rglob("*")) == ["models", "token"]


def test_a_private_repository_needs_the_token(api: HfApi, anonymous: HfApi, repo: str, tmp_path: Path) -> None:
    api.create_repo("me/secret", private=True)
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="w.bin", repo_id="me/secret")
    assert api.model_info("me/secret").private
    with pytest.raises(RepositoryNotFoundError):
        anonymous.model_info("me/secret")
    with pytest.raises(RepositoryNotFoundError):
        anonymous.hf_hub_download("me/secret", "w.bin", cache_dir=tmp_path)
    assert Path(api.hf_hub_download("me/secret", "w.bin", cache_dir=tmp_path)).read_bytes() == WEIGHTS
    assert Path(anonymous.hf_hub_download(repo, "model.safetensors", cache_dir=tmp_path)).read_bytes() == WEIGHTS


def test_writing_needs_the_token(anonymous: HfApi, repo: str) -> None:
    for write in (
        lambda: anonymous.create_repo("me/new"),
        lambda: anonymous.delete_repo(repo),
        lambda: anonymous.upload_file(path_or_fileobj=b"", path_in_repo="a", repo_id=repo),
        lambda: anonymous.create_tag(repo, tag="v1"),
        lambda: anonymous.delete_branch(repo, branch="main"),
    ):
        with pytest.raises(HfHubHTTPError, match="HF_TOKEN") as error:
            write()
        assert status_of(error) == 401


def test_a_wrong_token_is_said_to_be_wrong(api: HfApi, loopback_hub: LoopbackHub, repo: str, tmp_path: Path) -> None:
    assert api.whoami()["name"] == "local"
    wrong = HfApi(endpoint=loopback_hub.endpoint, token="hf_wrong")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        wrong.whoami()
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
        wrong.model_info(repo)
    assert not isinstance(error.value, RepositoryNotFoundError)


# Downloads


def test_a_cached_file_is_not_downloaded_again_and_outlives_the_hub(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        api.create_repo(REPO)
        api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="w.bin", repo_id=REPO)
        path = Path(api.hf_hub_download(REPO, "w.bin", cache_dir=tmp_path / "cache"))
        content = path.resolve()
        written = content.stat().st_mtime_ns
        api.upload_file(path_or_fileobj=b"text", path_in_repo="text", repo_id=REPO)
        again = Path(api.hf_hub_download(REPO, "w.bin", cache_dir=tmp_path / "cache"))
        # Another commit, the same content: the ETag tells.
        assert again != path
        assert again.resolve() == content
        assert content.stat().st_mtime_ns == written
        snapshot = api.snapshot_download(REPO, cache_dir=tmp_path / "cache")
    assert api.hf_hub_download(REPO, "w.bin", cache_dir=tmp_path / "cache") == str(again)
    assert api.snapshot_download(REPO, cache_dir=tmp_path / "cache") == snapshot


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=5-", 5, None), ("bytes=-7", -7, None), ("bytes=2-999999", 2, None)],
)
@pytest.mark.parametrize("file", ["model.safetensors", "README.md"])
def test_parts_of_a_file_are_served(
    loopback_hub: LoopbackHub, repo: str, file: str, asked: str, start: int, stop: int | None
) -> None:
    whole = get(loopback_hub, f"/{repo}/resolve/main/{file}")
    assert whole.status_code == 200
    part = get(loopback_hub, f"/{repo}/resolve/main/{file}", Range=asked)
    assert part.status_code == 206
    assert part.content == whole.content[start:stop]
    first = start % len(whole.content)
    assert part.headers["Content-Range"] == f"bytes {first}-{first + len(part.content) - 1}/{len(whole.content)}"


def test_ranges_that_cannot_be_served(loopback_hub: LoopbackHub, repo: str) -> None:
    beyond = get(loopback_hub, f"/{repo}/resolve/main/config.json", Range="bytes=12-")
    assert beyond.status_code == 416
    assert beyond.headers["Content-Range"] == "bytes */12"
    assert get(loopback_hub, f"/{repo}/resolve/main/config.json", Range="lines=1-2").status_code == 200


def test_a_browser_keeps_a_file_under_its_name(loopback_hub: LoopbackHub, api: HfApi) -> None:
    api.create_repo("me/named")
    for name in ("a/notes ä.txt", "a/weights;.bin"):
        api.upload_file(path_or_fileobj=b"content", path_in_repo=name, repo_id="me/named")
        answer = get_session().get(
            f"{loopback_hub.endpoint}/me/named/resolve/main/{quote(name)}", follow_redirects=True
        )
        assert answer.content == b"content"
        _, _, kept = answer.headers["Content-Disposition"].partition("inline; filename*=UTF-8''")
        assert unquote(kept) == name.removeprefix("a/")
        assert kept.isascii()


def test_an_interrupted_download_is_resumed(loopback_hub: LoopbackHub, repo: str) -> None:
    half = len(WEIGHTS) // 2
    file = io.BytesIO()
    file.write(WEIGHTS[:half])
    url = f"{loopback_hub.endpoint}/{repo}/resolve/main/model.safetensors"
    http_get(url, file, resume_size=half, expected_size=len(WEIGHTS))
    assert file.getvalue() == WEIGHTS


# What must not happen


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/out", ".git/config", "a//b", "a/./b", "a\\u0000b"])
def test_paths_that_leave_the_repository_are_refused(loopback_hub: LoopbackHub, repo: str, path: str) -> None:
    before = git(loopback_hub, "rev-parse", "main")
    answer = commit_lines(loopback_hub, f'{{"key": "file", "value": {{"path": "{path}", "content": "eA=="}}}}')
    assert answer.status_code == 400
    assert git(loopback_hub, "rev-parse", "main") == before
    assert not list(loopback_hub.root.rglob("out"))


def test_nothing_outside_the_repositories_is_served(loopback_hub: LoopbackHub, repo: str) -> None:
    (loopback_hub.root / "models" / "me" / "token").write_text("secret")
    for path in (
        "/..%2F..%2Ftoken/resolve/main/token",
        f"/{repo}/resolve/main/..%2F..%2F..%2Ftoken",
        f"/{repo}/resolve/..%2Fmain/config.json",
        f"/{repo}/resolve/--help/config.json",
        f"/{repo}/resolve/main~1/.gitattributes",
        "/api/models/me%2F..%2Fme/model",
        "/token",
    ):
        answer = get(loopback_hub, path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text


def test_a_file_is_not_a_folder_too(api: HfApi, repo: str) -> None:
    for path in ("logs", "config.json/x"):
        with pytest.raises(BadRequestError, match="cannot be both a file and the folder"):
            api.upload_file(path_or_fileobj=b"x", path_in_repo=path, repo_id=repo)


def upload_url(hub: LoopbackHub, sha256: str, size: int) -> str:
    answer = get_session().post(
        f"{hub.endpoint}/{REPO}.git/info/lfs/objects/batch",
        json={"objects": [{"oid": sha256, "size": size}]},
        headers={"Authorization": f"Bearer {hub.token}"},
    )
    return answer.json()["objects"][0]["actions"]["upload"]["href"]


def large_files(hub: LoopbackHub) -> list[Path]:
    return [path for path in (hub.root / "models").rglob("lfs/objects/**/*") if path.is_file()]


def test_a_damaged_upload_is_refused_and_leaves_nothing(loopback_hub: LoopbackHub, repo: str) -> None:
    kept = large_files(loopback_hub)
    sha256 = "ab" * 32
    for content in (b"123456", b"123"):
        answer = get_session().put(upload_url(loopback_hub, sha256, 6), content=content)
        assert answer.status_code == 400
    line = f'{{"key": "lfsFile", "value": {{"path": "w.bin", "algo": "sha256", "oid": "{sha256}", "size": 6}}}}'
    answer = commit_lines(loopback_hub, line)
    assert answer.status_code == 400
    assert "was not uploaded" in answer.json()["error"]
    assert large_files(loopback_hub) == kept


@pytest.mark.parametrize("sha256", ["../../../../../token", "AB" * 32, "ab" * 31])
def test_only_a_sha256_names_a_large_file(loopback_hub: LoopbackHub, repo: str, sha256: str) -> None:
    answer = get_session().post(
        f"{loopback_hub.endpoint}/{repo}.git/info/lfs/objects/batch",
        json={"objects": [{"oid": sha256, "size": 6}]},
        headers={"Authorization": f"Bearer {loopback_hub.token}"},
    )
    assert answer.status_code == 400
    line = f'{{"key": "lfsFile", "value": {{"path": "w.bin", "algo": "sha256", "oid": "{sha256}", "size": 6}}}}'
    assert commit_lines(loopback_hub, line).status_code == 400


def test_the_store_takes_only_signed_urls(loopback_hub: LoopbackHub, repo: str) -> None:
    url = upload_url(loopback_hub, "ab" * 32, 6)
    for forged in (url.replace("size=6", "size=7"), url.replace("abab", "cdcd", 1), url.split("?")[0]):
        assert get_session().put(forged, content=b"123456").status_code == 403
    assert get_session().get(url).status_code == 403


def test_a_full_disk_is_told_and_leaves_nothing(
    api: HfApi, loopback_hub: LoopbackHub, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = large_files(loopback_hub)
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RuntimeError) as error:
        api.upload_file(path_or_fileobj=b"\0new", path_in_repo="new.bin", repo_id=repo)
    assert "disk of the Hub is full" in str(error.value.__cause__)
    assert large_files(loopback_hub) == kept


def test_a_pointer_committed_as_text_stays_text(api: HfApi, repo: str, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n".encode()
    api.upload_file(path_or_fileobj=pointer, path_in_repo="pointer.txt", repo_id=repo)
    assert Path(api.hf_hub_download(repo, "pointer.txt", cache_dir=tmp_path)).read_bytes() == pointer


def test_a_foreign_host_name_is_refused(loopback_hub: LoopbackHub) -> None:
    assert get(loopback_hub, "/api/models", Host="evil.example:80").status_code == 400
    port = urlsplit(loopback_hub.endpoint).port
    assert get(loopback_hub, "/api/models", Host=f"localhost:{port}").status_code == 200


def test_what_the_hub_does_not_know_is_said(loopback_hub: LoopbackHub, repo: str) -> None:
    answer = get(loopback_hub, "/api/spaces")
    assert answer.status_code == 404
    assert "does not know GET /api/spaces" in answer.json()["error"]
    assert commit_lines(loopback_hub, '{"key": "rename", "value": {}}').status_code == 400


# Starting and stopping


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_token_is_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)
    with LoopbackHub(tmp_path) as hub:
        assert hub.token.startswith("hf_")
    assert (tmp_path / "token").read_text() == hub.token
    assert (tmp_path / "token").stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob(".token*"))


def test_a_restart_keeps_repositories_and_token(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        token, port = hub.token, urlsplit(hub.endpoint).port
        HfApi(endpoint=hub.endpoint, token=token).create_repo(REPO)
    assert port is not None
    with LoopbackHub(tmp_path / "hub", port) as hub:
        assert (hub.token, urlsplit(hub.endpoint).port) == (token, port)
        assert HfApi(endpoint=hub.endpoint, token=token).repo_exists(REPO)
    assert (tmp_path / "hub" / "token").stat().st_mode & 0o077 == 0


def test_only_loopback_is_bound(loopback_hub: LoopbackHub) -> None:
    assert urlsplit(loopback_hub.endpoint).hostname == "127.0.0.1"
    assert loopback_hub._server.server_address[0] == loopback_hub._store.server.server_address[0] == "127.0.0.1"


def test_it_says_why_it_cannot_start(
    loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="choose another"):
        LoopbackHub(tmp_path / "hub", urlsplit(loopback_hub.endpoint).port or 0)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        LoopbackHub(tmp_path / "file")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs the program git"):
        LoopbackHub(tmp_path / "hub")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_what_to_export_and_stops_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    code = "import sys; from pathlib import Path; from hybridvit.hub.server import serve; serve(Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "hub")], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        exported = {}
        for line in process.stdout:
            if match := re.fullmatch(r"export (\w+)=(\S+)\n", line):
                exported[match[1]] = match[2]
            elif exported:
                break
        api = HfApi(endpoint=exported["HF_ENDPOINT"], token=exported["HF_TOKEN"])
        assert exported["HF_HUB_DISABLE_XET"] == "1"
        assert api.whoami()["name"] == "local"
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(timeout=10) == 0
        assert "Hub stopped" in rest


def test_the_hub_imports_no_torch() -> None:
    run_python("-c", "import sys, hybridvit.hub.server; assert 'torch' not in sys.modules")


def test_git_is_not_misled_by_its_environment(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from hybridvit.hub.repositories import Repositories
repositories = Repositories(Path(sys.argv[1]))
repositories.create("me/model", private=False)
(commit,) = repositories.find("me/model").log("main")
assert commit["authors"] == [{"user": "local"}]
"""
    foreign = str(tmp_path / "foreign")
    run_python("-c", code, str(tmp_path), GIT_OBJECT_DIRECTORY=foreign, GIT_AUTHOR_NAME="somebody")
    assert not Path(foreign).exists()


# Other libraries and the command line, each in a process that has the Hub's environment


def test_timm_loads_what_it_pushed(run_client: Callable[..., str]) -> None:
    code = """
import timm, torch
torch.manual_seed(0)
images = torch.ones(1, 3, 160, 160)
pushed = timm.create_model("test_vit", num_classes=7).eval()
timm.models.push_to_hf_hub(pushed, "me/tiny", model_config={"num_classes": 7})
pulled = timm.create_model("hf-hub:me/tiny", pretrained=True).eval()
assert torch.equal(pulled(images), pushed(images))
assert pulled.num_classes == 7
"""
    run_client("-c", code)


def test_transformers_loads_what_it_pushed(run_client: Callable[..., str]) -> None:
    code = """
import torch
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification
config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32)
images = torch.ones(1, 3, 32, 32)
pushed = ViTForImageClassification(config).eval()
pushed.push_to_hub("me/tiny")
pulled = AutoModelForImageClassification.from_pretrained("me/tiny").eval()
assert torch.equal(pulled(images).logits, pushed(images).logits)
"""
    run_client("-c", code)


def test_the_command_line_uploads_and_downloads(api: HfApi, run_client: Callable[..., str], tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(WEIGHTS)
    hf = ("-m", "huggingface_hub.cli.hf")
    run_client(*hf, "upload", "me/model", str(source))
    assert "model.safetensors" in api.list_repo_files("me/model")
    run_client(*hf, "download", "me/model", "--local-dir", str(target))
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert run_client(*hf, "models", "ls", "--author", "me", "--format", "quiet").split() == ["me/model"]


def test_the_command_line_carries_a_saved_model(run_client: Callable[..., str], tmp_path: Path) -> None:
    """What save_pretrained wrote is all that a repository needs, and what a download gives is what load takes."""
    model, hf = tiny(), ("-m", "huggingface_hub.cli.hf")
    source = hv.save_pretrained(model, tmp_path / "source")
    run_client(*hf, "upload", "me/tiny", str(source))
    run_client(*hf, "download", "me/tiny", "--local-dir", str(tmp_path / "target"))
    again = hv.create_model(f"local-dir:{tmp_path / 'target'}")
    assert facts(again) == facts(model)
    assert torch.equal(logits(again, images(24, 32)), logits(model, images(24, 32)))
