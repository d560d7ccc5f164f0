"""The documentation is true: what can run without a network runs, links lead somewhere, names and options exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import hybridvit as hv
from hybridvit.hub import LoopbackHub

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        exec(compile(block, "tutorial.md", "exec"), scope)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert (tmp_path / "report" / "confusion.png").is_file()


def test_the_data_page_s_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "data.md"):
        exec(compile(block, "data.md", "exec"), scope)
    shown = capsys.readouterr().out
    assert "paths from column 'path', one label an image from column 'label'" in shown
    assert "hf:saved: images from column 'image', labels from column 'label'" in shown
    assert "1 shards" in shown
    assert {path.name for path in tmp_path.glob("*.png")} >= {"class_counts.png", "sizes.png", "samples.png"}
    page = (ROOT / "docs" / "data.md").read_text()
    keys = set(scope["report"]) - {"images", "classes", "notes"}
    assert not {key for key in keys if f"`{key}`" not in page}


def test_the_finetune_page_s_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "docs" / "finetune.md")
    exec(compile(block, "finetune.md", "exec"), {})
    assert ", and without training " in capsys.readouterr().out


def test_the_recommend_page_s_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "docs" / "recommend.md")
    exec(compile(block, "recommend.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"cct_2_3x2_32\.fmnist: 0\.\d\d ± 0\.\d\d, [\d.]+ ms", shown[0])
    assert shown[1].startswith("hybridvit finetune --model cct_2_3x2_32.fmnist --data ")
    assert (tmp_path / "recommendation" / "recommendation.png").is_file()


def test_the_architecture_page_s_ablation_runs():
    scope: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "architecture.md"):
        exec(compile(block, "architecture.md", "exec"), scope)
    assert scope["conv_stem_vit"] is not None


def test_the_benchmark_page_s_python_runs(capsys: pytest.CaptureFixture[str]):
    (block,) = blocks(ROOT / "docs" / "benchmarks.md")
    exec(compile(block, "benchmarks.md", "exec"), {})
    assert capsys.readouterr().out.startswith("cct_2_3x2_32 ")


def test_the_optimize_page_s_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "optimize.md"):
        exec(compile(block, "optimize.md", "exec"), scope)
    assert "batch norms folded into other layers" in capsys.readouterr().out
    assert scope["again"].spec == scope["fast"].spec != scope["model"].spec


def test_the_shipping_page_s_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "ship.md"):
        exec(compile(block, "ship.md", "exec"), scope)
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {"model.onnx", "preprocess.json"}
    assert (tmp_path / "looked.png").is_file()


def test_the_hub_page_s_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What it does on huggingface.co happens on a Hub of this machine here."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"hv": hv, "model": hv.create_model("cct_2_3x2_32")}
    show_record, use_lock, save_and_push, serve = blocks(ROOT / "docs" / "hub.md")
    with LoopbackHub(tmp_path / "other") as hub:
        access = f"endpoint={hub.endpoint!r}, token={hub.token!r}"
        here = save_and_push.replace("private=True", f"private=True, {access}").replace("org/name", "me/emoji")
        exec(compile(here, "hub.md", "exec"), scope)
        hv.lock("hf-hub:me/emoji", "weights.lock", endpoint=hub.endpoint, token=hub.token)
        exec(compile(use_lock.replace("lock=", f"{access}, lock="), "hub.md", "exec"), scope)
    assert (tmp_path / "directory" / "config.json").is_file()
    exec(compile(show_record, "hub.md", "exec"), scope)
    exec(compile(serve, "hub.md", "exec"), scope)
    assert (tmp_path / "hub").is_dir()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path):
    from typer.main import get_command

    from hybridvit.cli import app

    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"(?:^    |`)hybridvit ([a-z][^`\n]*)", text, flags=re.M):
        words = line.partition("#")[0].replace("|", " ").split()
        command = root = get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # pyright: ignore[reportAttributeAccessIssue]
        assert command is not root, f"{page.name}: no command in {line!r}"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= known, f"{page.name}: {sorted(named - known)} in {line!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_and_files_exist(page: Path):
    for path in re.findall(r"`((?:tests|hybridvit|zoo|docs)/[\w/.-]+)(?:::\w+)?`", page.read_text()):
        generic = any(part in path for part in ("myfamily",))
        assert generic or (ROOT / path).exists(), f"{page.name} names {path}"


def test_the_ablations_run_and_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "ablations.md"
    scope: dict[str, Any] = {}
    for block in blocks(page):
        assert "class " not in block
        exec(compile(block, page.name, "exec"), scope)
    shown = capsys.readouterr().out
    assert "stage 0, block 0, branch 0: Steps changes width and grid" in shown
    table = re.search(r"(?:^\|.*\n)+", shown, flags=re.M)
    assert table is not None
    assert table[0] in page.read_text()
    for name, result in scope["results"].items():
        losses = [epoch.train_loss for epoch in result.history]
        assert losses[-1] < 0.95 * losses[0], name


def test_the_hub_page_names_every_type_of_transformers_that_is_read():
    from hybridvit.weights.transformers_format import MODEL_TYPES

    (row,) = re.findall(r"^\| transformers \| (.*?) \|", (ROOT / "docs" / "hub.md").read_text(), flags=re.M)
    assert re.findall(r"`([\w-]+)`", row) == list(MODEL_TYPES)
