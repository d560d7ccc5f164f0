"""What commands say as JSON: one object on standard output and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import hybridvit as hv
from hybridvit.benchmark import append_result
from hybridvit.demo import DemoResult
from hybridvit.resolved import sha256_of
from tests.benchmark.examples import example
from tests.cli.runner import command, output
from tests.weights.examples import tiny


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return hv.save_pretrained(tiny(), tmp_path / "saved")


def said(*arguments: object) -> Any:
    return json.loads(output(*arguments, "--json"))


def test_lock(saved: Path, tmp_path: Path) -> None:
    lock = tmp_path / "weights.lock"
    locked = said("lock", saved, "--file", lock)
    assert locked["file"] == str(lock)
    (files,) = (facts["files"] for facts in locked["locked"].values())
    assert files["model.safetensors"]["sha256"] == sha256_of(saved / "model.safetensors")
    assert said("lock", "--check", "--file", lock) == {
        "file": str(lock),
        "checked": {f"local-dir:{saved}": "as locked"},
    }
    (saved / "config.json").write_text("{}")
    result = command("lock", "--check", "--file", lock, "--json")
    assert result.exit_code == 1
    assert "is not the file in" in json.loads(result.stdout)["checked"][f"local-dir:{saved}"]


def test_convert(saved: Path, tmp_path: Path) -> None:
    done = said("convert", saved, tmp_path / "new.safetensors", "--to", "original")
    assert done["written"] == str(tmp_path / "new.safetensors")
    assert done["read"]["source"] == f"local-dir:{saved}"


def test_optimize(saved: Path, tmp_path: Path) -> None:
    done = said("optimize", saved, "--out", tmp_path / "fast")
    assert done["saved"] == str(tmp_path / "fast")
    assert done["difference"] < 1e-3
    assert all(isinstance(line, str) for line in done["done"])


def test_push(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridvit.weights.push.push_to_hub", lambda *_, **__: "https://hub/me/model/commit/1")
    assert said("push", saved, "me/model") == {"pushed": "https://hub/me/model/commit/1"}


def test_pull(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = hv.create_model(f"local-dir:{saved}").resolved
    monkeypatch.setattr("hybridvit.weights.push.pull", lambda *_, **__: record)
    done = said("pull", "me/model", tmp_path / "pulled")
    assert done["pulled"] == str(tmp_path / "pulled")
    assert done["read"]["source"] == f"local-dir:{saved}"


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = DemoResult(0.9, 0.5, 12.0, 0.0, tmp_path / "c.png", tmp_path / "p.png", tmp_path / "model")

    def demo(out: Path, recipe: str, console: Any) -> DemoResult:
        console.print("one step after another")
        return result

    monkeypatch.setattr("hybridvit.demo.demo", demo)
    shown = command("demo", "--out", tmp_path, "--json")
    assert "one step after another" in shown.stderr
    told = json.loads(shown.stdout)
    assert (told["pretrained_accuracy"], told["model"]) == (0.9, str(tmp_path / "model"))
    assert "one step after another" in output("demo", "--out", tmp_path)


def test_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, file = example(), tmp_path / "results.jsonl"
    append_result(file, result)
    assert said("benchmark", "--render", file) == json.loads(json.dumps(asdict(result)))
    changes = [json.loads(line) for line in output("benchmark", "--compare", file, file, "--json").splitlines()]
    assert len(changes) > 1
    assert all(change["verdict"] != "worse" for change in changes)
    monkeypatch.setattr("hybridvit.benchmark.benchmark", lambda *_, **__: [result])
    assert said("benchmark", result.model, "--out", tmp_path / "new.jsonl")["model"] == result.model


def test_hub_serve(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hybridvit.cli", "hub", "serve", "--root", str(tmp_path / "hub"), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 0
    assert told["endpoint"].startswith("http://127.0.0.1:")
    assert told["environment"]["HF_ENDPOINT"] == told["endpoint"]
