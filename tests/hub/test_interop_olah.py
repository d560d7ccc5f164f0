"""Another Hub than ours, olah (PyPI, MIT), serves what we have pushed, and hands on what our Hub serves.

olah needs an environment of its own; CONTRIBUTING.md says how it is made. HYBRIDVIT_OLAH names its program.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import get_session

import hybridvit as hv
from hybridvit.hub import LoopbackHub
from hybridvit.weights.sources import WeightsNotFoundError
from tests.parity import images
from tests.weights.examples import facts, logits, tiny

OLAH = os.environ.get("HYBRIDVIT_OLAH", "")
REPO = "me/model"

pytestmark = pytest.mark.skipif(not OLAH, reason="HYBRIDVIT_OLAH names no olah-cli: see CONTRIBUTING.md")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def olah(folder: Path, *settings: str) -> Iterator[str]:
    """A running olah with lines for its configuration; gives its address."""
    folder.mkdir()
    port = free_port()
    lines = ["[basic]", 'host = "127.0.0.1"', f"port = {port}", f'repos-path = "{folder}/cache"', *settings]
    (folder / "olah.toml").write_text("\n".join(lines) + "\n")
    command = [OLAH, "--config", str(folder / "olah.toml"), "--log-path", str(folder / "logs"), "--port", str(port)]
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1"], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "output.txt").read_text()
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def mirror(hub: LoopbackHub, repo: str, folder: Path) -> None:
    """A clone as olah wants it: a work tree, with large files where Git LFS keeps them."""
    source = hub.root / "models" / f"{repo}.git"
    target = folder / "models" / repo
    environment = os.environ | {"GIT_LFS_SKIP_SMUDGE": "1"}
    subprocess.run(["git", "clone", "--quiet", source, target], check=True, env=environment)
    shutil.copytree(source / "lfs", target / ".git" / "lfs")


def test_it_serves_the_git_repository_of_a_model(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    first, second, batch = tiny(seed=1), tiny(seed=2), images(24, 32)
    for model in (first, second):
        hv.push_to_hub(model, REPO, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    commits = HfApi(endpoint=loopback_hub.endpoint).list_repo_commits(REPO)
    mirror(loopback_hub, REPO, tmp_path / "mirrors")
    settings = f'mirrors-path = ["{tmp_path}/mirrors"]', "[accessibility]", "offline = true"
    with olah(tmp_path / "olah", *settings) as endpoint:
        # What is newest olah asks the Hub that it mirrors, so a revision is named where there is none.
        assert HfApi(endpoint=endpoint).model_info(REPO, revision="main").sha == commits[0].commit_id
        newest = hv.create_model(f"hf-hub:{REPO}", endpoint=endpoint, cache_dir=tmp_path / "a")
        pinned = hv.create_model(f"hf-hub:{REPO}@{commits[1].commit_id}", endpoint=endpoint, cache_dir=tmp_path / "b")
        target = hv.pull_from_hub(f"{REPO}@main", tmp_path / "pulled", endpoint=endpoint)
        with pytest.raises(WeightsNotFoundError, match="me/nothing"):
            hv.create_model("hf-hub:me/nothing", endpoint=endpoint, cache_dir=tmp_path / "a")
    assert facts(newest) == facts(second)
    assert torch.equal(logits(newest, batch), logits(second, batch))
    assert torch.equal(logits(pinned, batch), logits(first, batch))
    assert torch.equal(logits(hv.create_model(f"local-dir:{target}"), batch), logits(second, batch))


def test_it_hands_on_what_our_hub_serves_and_keeps_it(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    """As a cache between users and our Hub, which has to answer it as it would a client."""
    model, batch = tiny(), images(24, 32)
    hv.push_to_hub(model, REPO, endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    address = loopback_hub.endpoint.removeprefix("http://")
    settings = 'hf-scheme = "http"', f'hf-netloc = "{address}"', f'hf-lfs-netloc = "{address}"'
    with olah(tmp_path / "olah", *settings) as endpoint:
        for place in ("a", "b"):
            again = hv.create_model(f"hf-hub:{REPO}", endpoint=endpoint, cache_dir=tmp_path / place)
            assert facts(again) == facts(model)
            assert torch.equal(logits(again, batch), logits(model, batch))
        assert get_session().get(f"{endpoint}/api/models/{REPO}").json()["id"] == REPO
