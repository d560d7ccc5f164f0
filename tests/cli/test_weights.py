"""Lock, convert, optimize, push and pull."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import hybridvit as hv
from hybridvit.hub import LoopbackHub
from hybridvit.resolved import sha256_of
from hybridvit.weights.sources import WeightsNotFoundError, WeightsWarning
from tests.cli.runner import CLI, command, message, output
from tests.hub.conftest import api, loopback_hub, run_client
from tests.parity import error, images
from tests.weights.examples import LABELS, described, logits, tiny

__all__ = ["api", "loopback_hub", "run_client"]

WITHOUT_EXTRAS = """
import sys
sys.modules.update(dict.fromkeys(["torchvision", "timm", "accelerate", "matplotlib"]))
from hybridvit.cli import app
app(sys.argv[1:])
"""


def test_push_and_pull(
    loopback_hub: LoopbackHub, run_client: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub of this machine is reached directly, whatever the way to the world outside is."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, batch = tiny(), images(24, 32)
    source, target = tmp_path / "source", tmp_path / "target"
    hv.save_pretrained(model, source)
    pushed = run_client(*CLI, "push", str(source), "me/model", "--licence", "cc-by-nc-4.0", "--branch", "trial")
    assert f"pushed: {loopback_hub.endpoint}/me/model/commit/" in pushed
    *record, last = run_client(*CLI, "pull", "me/model@trial", str(target)).splitlines()
    assert last == f"pulled into {target}"
    assert record[0] == f"source: hf:me/model at commit {pushed.rpartition('/')[2].strip()}"
    weights = target / "model.safetensors"
    told = f"file: model.safetensors, {weights.stat().st_size:,} bytes, sha256 {sha256_of(weights)}"
    assert told in record
    with pytest.warns(WeightsWarning, match=r"is licensed cc-by-nc-4\.0: not for commercial use"):
        pulled = hv.create_model(f"local-dir:{target}")
    assert torch.equal(logits(pulled, batch), logits(model, batch))
    assert pulled.labels == LABELS
    assert "license: cc-by-nc-4.0" in (target / "README.md").read_text()
    assert json.loads((target / "config.json").read_text())["labels"] == list(LABELS)


def test_a_wrong_token_is_one_line(loopback_hub: LoopbackHub) -> None:
    with pytest.raises(WeightsNotFoundError) as caught:
        hv.push_to_hub(tiny(), "me/model", endpoint=loopback_hub.endpoint, token="hf_wrong")
    assert str(caught.value) == (
        f"{loopback_hub.endpoint} does not let you do that with me/model; log in with `hf auth login` or set HF_TOKEN "
        "to a token that may"
    )


def test_sharing_needs_no_extra(run_client: Callable[..., str], tmp_path: Path) -> None:
    hv.save_pretrained(tiny(), tmp_path / "source")
    run_client("-c", WITHOUT_EXTRAS, "push", str(tmp_path / "source"), "me/model")
    run_client("-c", WITHOUT_EXTRAS, "pull", "me/model", str(tmp_path / "target"))
    assert (tmp_path / "target" / "config.json").is_file()
    assert "cct_2_3x2_32" in run_client("-c", WITHOUT_EXTRAS, "info", "cct_2_3x2_32")
    assert "cct_2_3x2_32" in run_client("-c", WITHOUT_EXTRAS, "list", "cct*")


def test_lock_and_check(tmp_path: Path) -> None:
    saved, lock = hv.save_pretrained(tiny(), tmp_path / "saved"), tmp_path / "weights.lock"
    shown = output("lock", saved, "cct_2_3x2_32.fmnist", "--file", lock)
    assert f"locked local-dir:{saved}: local-dir:{saved}, 2 files" in shown
    assert f"sha256 {sha256_of(saved / 'config.json')}" in shown
    checked = output("lock", "--check", "--file", lock)
    assert checked.splitlines() == ["cct_2_3x2_32.fmnist: as locked", f"local-dir:{saved}: as locked"]
    assert "layout: hybridvit" in output("info", saved, "--lock", lock)
    (saved / "config.json").write_text("{}")
    result = command("lock", "--check", "--file", lock)
    assert result.exit_code == 1
    assert f"config.json of local-dir:{saved} is not the file in {lock}" in result.stdout
    assert result.stderr.strip() == f"1 of 2 are not as {lock} has them: local-dir:{saved}"
    assert "name at least one model" in message("lock", "--file", lock)
    assert "is not the file in" in message("info", saved, "--lock", lock)


def test_convert_says_what_it_read(tmp_path: Path) -> None:
    saved, file = hv.save_pretrained(tiny(), tmp_path / "saved"), tmp_path / "new.safetensors"
    shown = output("convert", saved, file, "--to", "original")
    assert shown.splitlines()[0] == f"source: local-dir:{saved}"
    assert shown.splitlines()[-1] == f"written: {file}"
    assert file.is_file()
    assert "It has: hybridvit, original" in message("convert", saved, tmp_path / "other", "--to", "timm")


def test_optimize_says_what_it_did_and_saves_it(tmp_path: Path) -> None:
    model, out = described("levit_128s", num_classes=5, img_size=(64, 96)), tmp_path / "fast"
    saved = hv.save_pretrained(model, tmp_path / "saved")
    *done, off, last = output("optimize", saved, "--out", out).splitlines()
    assert done[0] == "52 of 52 batch norms folded into other layers"
    difference = re.fullmatch(r"largest difference: (\S+) of the spread of outputs on random images", off)
    assert difference is not None
    assert 0 < float(difference[1]) < 1e-3
    assert last == f"saved in {out}"
    fast = hv.create_model(f"local-dir:{out}")
    assert error(logits(fast, images(64, 96)), logits(model, images(64, 96))) < 1e-3
    assert fast.labels == LABELS
    output("optimize", saved, "--out", out, "--dtype", "bfloat16")
    assert next(hv.create_model(f"local-dir:{out}").parameters()).dtype == torch.bfloat16
    assert "has the model itself" in message("optimize", saved, "--out", tmp_path / "." / "saved")
    (tmp_path / "file").touch()
    assert "is a file; name a directory" in command("optimize", saved, "--out", tmp_path / "file").stderr


def test_push_fills_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridvit.weights.push.push_to_hub", lambda model, repository, **given: given)
    options = "--private --branch trial --message Better --pull-request --licence mit --base-model a/b --dataset one"
    options += " --dataset two --metric top1=0.5 --metric epochs=3 --description About"
    shown = output("push", hv.save_pretrained(tiny(), tmp_path / "saved"), "me/model", *options.split())
    assert ast.literal_eval(shown.removeprefix("pushed: ")) == {
        "private": True,
        "revision": "trial",
        "commit_message": "Better",
        "create_pr": True,
        "licence": "mit",
        "base_model": "a/b",
        "datasets": ["one", "two"],
        "metrics": {"top1": 0.5, "epochs": 3},
        "description": "About",
    }
    assert "--metric needs NAME=VALUE" in message("push", tmp_path / "saved", "me/model", "--metric", "top1")
