"""`hybridvit recommend`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer.main

from hybridvit.cli import app
from hybridvit.recommendation import run as module
from hybridvit.recommendation.run import JSON_FILE, PICTURE_FILE
from tests.cli.runner import command, message, output
from tests.recommendation.examples import ToldClock, blind, seeing, striped

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _told_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "clock_for", lambda device: ToldClock())
    monkeypatch.chdir(tmp_path)


def asked(tmp_path: Path, *more: object) -> list[object]:
    models = seeing(tmp_path / "seeing"), blind(tmp_path / "blind"), "local-dir:nowhere"
    named = [word for model in models for word in ("--models", model)]
    return ["recommend", "--data", striped(tmp_path / "data"), "--device", "cpu", "--workers", 0, *named, *more]


def test_it_tells_figures_reasons_and_the_next_command(tmp_path: Path) -> None:
    result = command(*asked(tmp_path))
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "not judged: local-dir:nowhere: no directory nowhere" in shown
    assert f"Best: local-dir:{tmp_path / 'seeing'} (accuracy " in shown
    assert "candidates: 3 models as named" in result.stderr
    out = Path("runs") / "data-recommendation"
    assert f"Picture: {out / PICTURE_FILE}" in shown
    assert (out / PICTURE_FILE).is_file()
    assert json.loads((out / JSON_FILE).read_text())["recommended"] == f"local-dir:{tmp_path / 'seeing'}"
    *_, last = result.stdout.splitlines()
    words = shlex.split(last)
    assert words[:2] == ["hybridvit", "finetune"]
    finetune = typer.main.get_command(app).commands["finetune"]  # pyright: ignore[reportAttributeAccessIssue]
    context = finetune.make_context("finetune", words[2:])
    assert context.params["model"] == f"local-dir:{tmp_path / 'seeing'}"
    assert context.params["data"] == str(tmp_path / "data")


def test_a_second_run_has_the_same_directory(tmp_path: Path) -> None:
    output(*asked(tmp_path))
    result = command(*asked(tmp_path))
    assert result.stderr.count("features kept from before") == 2
    assert [path.name for path in Path("runs").iterdir()] == ["data-recommendation"]


def test_json_is_one_object(tmp_path: Path) -> None:
    told = json.loads(output(*asked(tmp_path, "--json", "--out", tmp_path / "out")))
    assert told == json.loads((tmp_path / "out" / JSON_FILE).read_text())
    assert {row["status"] for row in told["models"]} == {"judged", "failed"}
    assert told["directory"] == str(tmp_path / "out")


def test_if_none_can_be_judged_the_exit_code_is_1(tmp_path: Path) -> None:
    result = command("recommend", "--data", striped(tmp_path / "data"), "--models", "local-dir:nowhere")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "none of 1 candidates could be judged:\n  local-dir:nowhere: no directory nowhere" in result.stderr
    assert "--models local-dir:PATH" in result.stderr
    assert not Path("runs").exists()
    assert "no model 'levit_129'" in message("recommend", "--data", tmp_path / "data", "--models", "levit_129")
