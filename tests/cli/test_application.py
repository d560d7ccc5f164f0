"""Errors, warnings and what every command has in common."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import hybridvit as hv
from tests.cli.runner import command, message, output
from tests.hub.conftest import run_python


def test_the_command_is_named_as_the_package_installs_it() -> None:
    usage = output("--help")
    names = "list info predict finetune evaluate benchmark lock convert optimize push pull demo hub"
    for name in names.split():
        assert re.search(rf"^\W*{name} ", usage, re.MULTILINE), name


@pytest.mark.parametrize("words", ["list", "list --pretrained", "list --json", "--help", "info --help"])
def test_what_needs_no_torch_imports_none(words: str) -> None:
    run_python(
        "-c",
        f"import sys; from hybridvit.cli import app; app({words.split()}, standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'huggingface_hub'} & sys.modules.keys()",
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("info", "vit_tinny_patch16_224"), "no model 'vit_tinny_patch16_224'. Did you mean 'vit_tiny_patch16_224'"),
        (("info", "vit_tiny_patch16_224.augreg"), "vit_tiny_patch16_224 has no tag 'augreg'. Did you mean"),
        (("list", "*nothing*"), "no model matches '*nothing*'; `hybridvit list` shows all"),
        (("list", "--family", "vti"), "no family 'vti'. Did you mean 'vit'"),
        (("push", "nowhere_at_all", "me/model"), "no model 'nowhere_at_all'."),
        (("optimize", "nowhere_at_all", "--out", "{tmp}/fast"), "no model 'nowhere_at_all'."),
        (("push", "cct_2_3x2_32", "a/b/c"), "'a/b/c' is no repository name: it looks like ORG/NAME"),
        (("push", "cct_2_3x2_32", "model"), "'model' is no repository name: it looks like ORG/NAME"),
        (("push", "cct_2_3x2_32", "me/model"), "me/model on http://127.0.0.1:9: "),
        (("pull", "me/model", "{tmp}/pulled"), "me/model on http://127.0.0.1:9: "),
        (("pull", "me/model", "{tmp}/file.txt"), "file.txt is a file; name a directory"),
        (("predict", "{tmp}", "--model", "local-dir:{tmp}/none"), "no directory {tmp}/none"),
        (("hub", "serve", "--root", "{tmp}/file.txt"), "file.txt' is a file: name a directory"),
        (("predict", "{tmp}", "--model", "./trained"), "no directory trained; local-dir:PATH names a directory"),
        (
            ("predict", "{tmp}/file.txt", "--model", "cct_2_3x2_32.fmnist", "--device", "foo"),
            "no device 'foo': use cpu, cuda",
        ),
        (("predict", "{tmp}/file.txt", "--model", "cct_2_3x2_32.fmnist", "--device", "cuda:99"), "finds no device"),
    ],
)
def test_what_a_user_can_act_on_is_one_line(arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("mine")
    shown = message(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert expected.format(tmp=tmp_path) in shown
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("hybridvit.weights.info.list_models", broken)
    assert isinstance(command("list").exception, KeyError)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr("hybridvit.weights.info.list_models", lacking)
    assert message("list") == "this needs timm: pip install 'hybridvit[train]'"


def test_a_warning_is_one_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def warned(*_: object, **__: object) -> list[str]:
        warnings.warn("not for commercial use", UserWarning, stacklevel=1)
        return ["vit_tiny_patch16_224"]

    monkeypatch.setattr("hybridvit.weights.info.list_models", warned)
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = command("list", "--plain")
    assert result.stderr == "note: not for commercial use\n"
    assert warnings.showwarning is before


def test_messages_name_the_options_of_a_command(tmp_path: Path) -> None:
    file, new = tmp_path / "weights.safetensors", tmp_path / "new.safetensors"
    save_file({"one": torch.zeros(3)}, file)
    for arguments in (("convert", file, new), ("lock", file, "--file", tmp_path / "w.lock")):
        assert message(*arguments).endswith("if it is one of them in other names, say which: --model ARCHITECTURE")
    assert message("info", file).endswith("say which: `hybridvit convert --model ARCHITECTURE`")
    name = "cct_2_3x2_32.fmnist"
    assert message("push", name, "me/x@new") == "'me/x@new' names a revision; push to 'me/x' with --branch new"
    said = message("push", name, "me/x", "--branch", "new", "--pull-request")
    assert said.startswith("--pull-request opens a pull request against the main branch, and --branch new is another")
    assert "two revisions: 'me/x@a' and --revision b; name one" in message(
        "pull", "me/x@a", tmp_path, "--revision", "b"
    )


def test_a_refused_pickle_names_the_option(tmp_path: Path) -> None:
    file = tmp_path / "old.pth"
    torch.save(hv.create_model("cct_2_3x2_32").state_dict(), file)
    for arguments in (("info", file), ("push", file, "me/x"), ("convert", file, tmp_path / "new.safetensors")):
        said = message(*arguments)
        assert "or pass --allow-pickle if you trust it" in said
        assert "allow_pickle" not in said
    assert "layout: hybridvit" in output("info", file, "--allow-pickle")
    assert "pickle" not in command("push", file, "me/x", "--allow-pickle").stderr
    picture = next((Path(hv.__file__).parents[1] / "zoo" / "samples" / "emoji").rglob("*.png"))
    said = message("predict", picture, "--model", file)
    assert "Convert it to safetensors, with `hybridvit convert --allow-pickle` if you trust it" in said
