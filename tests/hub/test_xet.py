"""Repositories whose large files are in a Xet store, as those of huggingface.co are: the real client reads them for us.

The store is a folder, which hf_xet takes for one in tests of its own: `local://`. Where it refuses that, these are
skipped. What is uploaded to a Xet store the Hub would have to look for there, which ours cannot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import torch

import hybridvit as hv
from hybridvit.hub import LoopbackHub, server
from hybridvit.hub.api import HubHandler
from tests.hub.conftest import run_python
from tests.parity import images
from tests.weights.examples import logits, tiny

REPO = "me/model"
LOADS = """
import sys, torch
import hybridvit as hv
from huggingface_hub.utils._runtime import is_xet_available
from tests.weights.examples import logits
assert is_xet_available()
model = hv.create_model(f"hf-hub:{sys.argv[1]}")
torch.save(logits(model, torch.load(sys.argv[2])), sys.argv[3])
"""

PUSHES = """
import sys
import hybridvit as hv
from hybridvit.weights.sources import WeightsNotFoundError
from tests.weights.examples import tiny
try:
    hv.push_to_hub(tiny(), sys.argv[1])
except WeightsNotFoundError as error:
    print(error)
"""


def xet_store(folder: Path) -> tuple[str, Callable[[Path], str]]:
    """A store in a folder: its address, and what puts a file there and gives the hash of its content."""
    hf_xet: Any = pytest.importorskip("hf_xet")
    folder.mkdir()
    address = f"local://{folder}"

    def put(path: Path) -> str:
        try:
            access = ("token", int(time.time()) + 600)
            (uploaded,) = hf_xet.upload_files([str(path)], address, access, None, None, "model")
        except Exception as error:
            pytest.skip(f"hf_xet takes no folder for a store: {error}")
        return uploaded.hash

    return address, put


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_weights_in_a_xet_store_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, put = xet_store(tmp_path / "xet")
    hashes: dict[str, str] = {}
    tokens_given: list[str] = []

    class XetHandler(HubHandler):
        """The Hub, for which the store has large files by their sha256 in `hashes`."""

        def answer(self) -> None:
            if "/xet-read-token/" not in self.path:
                return super().answer()
            tokens_given.append(self.path)
            answer = {"casUrl": address, "accessToken": "token", "exp": int(time.time()) + 600}
            names = zip(("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration"), answer.values(), strict=True)
            return self.send_json(answer, headers={name: str(value) for name, value in names})

        def send_head(self, status: int, headers: dict[str, str], length: int = 0) -> None:
            known = hashes.get(headers.get("X-Linked-Etag", "").strip('"'))
            if status == HTTPStatus.FOUND and known:
                token = f"{self._endpoint()}/api/models/{REPO}/xet-read-token/{headers['X-Repo-Commit']}"
                headers = {**headers, "X-Xet-Hash": known, "Link": f'<{token}>; rel="xet-auth"'}
            super().send_head(status, headers, length)

    monkeypatch.setattr(server, "HubHandler", XetHandler)
    model, batch = tiny(), images(24, 32)
    with LoopbackHub(tmp_path / "hub") as hub:
        hv.push_to_hub(model, REPO, endpoint=hub.endpoint, token=hub.token)
        for path in (tmp_path / "hub" / "models").glob("**/lfs/objects/*/*/*"):
            hashes[path.name] = put(path)
            path.write_bytes(bytes(path.stat().st_size))  # from here on the Xet store alone has it
        assert len(hashes) == 1
        torch.save(batch, tmp_path / "batch.pt")
        environment = hub.environment() | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "0"}
        paths = str(tmp_path / "batch.pt"), str(tmp_path / "logits.pt")
        run_python("-c", LOADS, REPO, *paths, **environment)
    assert tokens_given
    assert torch.equal(torch.load(tmp_path / "logits.pt"), logits(model, batch))


def test_a_push_to_a_hub_without_a_xet_store_says_so(tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    with LoopbackHub(tmp_path / "hub") as hub:
        said = run_python("-c", PUSHES, REPO, **(hub.environment() | {"HF_HUB_DISABLE_XET": "0"}))
    assert "has no Xet store" in said
    assert "set HF_HUB_DISABLE_XET=1" in said
