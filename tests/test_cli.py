"""The command line: list, info, push, pull, and how every command reports what a user can act on."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import hybridvit as hv
from hybridvit.cli import app
from hybridvit.hub import LoopbackHub
from hybridvit.registry import model_spec, spec_from_dict
from hybridvit.resolved import sha256_of
from hybridvit.weights.entries import entries
from hybridvit.weights.sources import WeightsNotFoundError, WeightsWarning
from tests.hub.conftest import api, loopback_hub, run_client, run_python
from tests.parity import error, images
from tests.weights.examples import LABELS, described, logits, tiny

__all__ = ["api", "loopback_hub", "run_client"]

CLI = ("-m", "hybridvit.cli")


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def output(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def message(*arguments: object) -> str:
    """The one line on standard error of a command that fails."""
    result = command(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_the_command_is_named_as_the_package_installs_it() -> None:
    usage = output("--help")
    names = "list info predict finetune evaluate benchmark lock convert optimize push pull demo hub"
    for name in names.split():
        assert re.search(rf"^\W*{name} ", usage, re.MULTILINE), name


def test_list_names_every_model() -> None:
    assert output("list", "--plain").split() == hv.list_models()
    assert output("list", "*r50*", "--family", "vit_hybrid", "--plain").split() == hv.list_models(
        "*r50*", family="vit_hybrid"
    )
    assert output("list", "vit_tiny*", "--pretrained", "--plain").split() == hv.list_models(
        "vit_tiny*", pretrained=True
    )


def test_list_shows_cost_size_and_licence_by_group() -> None:
    shown = [line.rstrip() for line in output("list").splitlines()]
    (row,) = [line for line in shown if line.startswith("vit_tiny_patch16_224 ")]
    assert re.search(r" 5\.72M +2\.51 +224x224 +2 +vit$", row.strip())
    assert shown.index("CNN") > shown.index("CNN stem + ViT") > shown.index(row) > shown.index("pure ViT")
    shown = output("list", "vit_tiny_patch16_384*", "--pretrained")
    assert re.search(r"vit_tiny_patch16_384\.augreg_in21k_ft_in1k +1000 +384x384 +78\.\d\d +apache-2\.0", shown)


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("options", [(), ("--pretrained",)])
def test_list_fits_the_terminal(columns: str, options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["list", *options], env={"COLUMNS": columns})
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= int(columns)


def test_list_as_json_is_the_index() -> None:
    rows = [json.loads(line) for line in output("list", "cvt_13*", "--json").splitlines()]
    assert [row["name"] for row in rows] == hv.list_models("cvt_13*")
    assert rows[0]["group"] == "convolution-augmented attention"
    assert rows[0]["weights"] == ["cvt_13.ms_in1k"]
    assert rows[0]["flops"] == hv.model_info("cvt_13").flops
    (row,) = map(json.loads, output("list", "cvt_13.*", "--pretrained", "--json").splitlines())
    assert (row["source"], row["licence"], row["family"]) == ("hf:microsoft/cvt-13", "apache-2.0", "cvt")
    (row,) = map(json.loads, output("list", "gcvit_tiny.*", "--pretrained", "--json").splitlines())
    assert row["paper"] == "arXiv 2206.09959"
    assert "params" not in row, "they depend on the number of classes"


def test_a_checkpoint_costs_what_its_classes_and_size_make_it_cost() -> None:
    own, of_22k = hv.model_info("vit_tiny_patch16_224"), hv.model_info("vit_tiny_patch16_224.augreg_in21k")
    assert of_22k.params == own.params + (21843 - 1000) * (192 + 1)
    large = hv.model_info("vit_base_patch16_384.tv_swag_e2e_in1k")
    assert (large.img_size, large.params) == ((384, 384), hv.model_info("vit_base_patch16_384").params)


@pytest.mark.parametrize("words", ["list", "list --pretrained", "list --json", "--help", "info --help"])
def test_what_needs_no_torch_imports_none(words: str) -> None:
    run_python(
        "-c",
        f"import sys; from hybridvit.cli import app; app({words.split()}, standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'huggingface_hub'} & sys.modules.keys()",
    )


def test_listing_imports_no_library_for_tables_and_reads_no_entries() -> None:
    run_python(
        "-c",
        "import sys; from hybridvit.cli import app; app(['list'], standalone_mode=False)\n"
        "from hybridvit.weights.entries import entries_in\n"
        "assert 'rich.table' not in sys.modules and not entries_in.cache_info().currsize",
    )


def test_info_tells_parts_cost_maps_and_weights() -> None:
    shown = output("info", "vit_tiny_patch16_224")
    assert "family vit (pure ViT), arXiv 2010.11929" in shown
    assert "ViT: patches, a class token, transformer blocks" in shown
    assert re.search(r"Patchify 16x16 192 \+ 1 prefix token \+ LearnedPosition .* 192 +14x14\+1 +5\.52M +2\.51", shown)
    assert "12 x (Attention 3 heads; Mlp 768)" in shown
    assert "5.72 M parameters, 2.51 GFLOPs (a multiply-add is two) an image of 224x224; embedding of 192" in shown
    assert "feature maps: 192 channels at stride 16" in shown
    assert "vit_tiny_patch16_224.augreg_in21k_ft_in1k" in shown
    assert re.search(r"augreg_in21k \W+apache-2\.0 \W+21843 \W+224x224", shown)
    assert "augreg_in21k_ft_in1k" not in output("info", "vit_tiny_patch16_224.augreg_in21k")
    assert "no released weights" in output("info", "cct_7_3x2_32")
    assert "top-1 93.07%, measured here" in output("info", "cct_2_3x2_32")


def test_info_tells_who_reports_figures_and_what_needs_a_pickle() -> None:
    shown = output("info", "vit_base_patch16_384")
    assert re.search(r"augreg_in21k_ft_in1k .* 86\.01 \[1\]", shown)
    assert re.search(r"tv_swag_e2e_in1k .* 85\.30 \[2\]", shown)
    assert (
        "[1] reported: timm's evaluation on ImageNet-1k's 50,000 validation images, in percent (timm-results," in shown
    )
    assert "[2] reported: torchvision's evaluation" in shown
    assert "vit_base_patch16_384.tv_swag_e2e_in1k: a pickle: needs allow_pickle=True" in shown


def test_info_as_json_has_the_spec_and_all_facts() -> None:
    facts = json.loads(output("info", "cvt_13", "--json"))
    assert spec_from_dict(facts["spec"]) == model_spec("cvt_13")
    assert [stage["width"] for stage in facts["stages"]] == [64, 192, 384]
    assert facts["weights"][0]["name"] == "cvt_13.ms_in1k"


def test_info_shows_what_is_not_for_commercial_use() -> None:
    name, entry = next(item for item in entries().items() if item[1].non_commercial)
    assert f"{entry.licence} (non-commercial)" in output("info", name)
    assert f"{entry.licence} (non-commercial)" in output("list", name, "--pretrained")


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


WITHOUT_EXTRAS = """
import sys
sys.modules.update(dict.fromkeys(["torchvision", "timm", "accelerate", "matplotlib"]))
from hybridvit.cli import app
app(sys.argv[1:])
"""


def test_sharing_needs_no_extra(run_client: Callable[..., str], tmp_path: Path) -> None:
    hv.save_pretrained(tiny(), tmp_path / "source")
    run_client("-c", WITHOUT_EXTRAS, "push", str(tmp_path / "source"), "me/model")
    run_client("-c", WITHOUT_EXTRAS, "pull", "me/model", str(tmp_path / "target"))
    assert (tmp_path / "target" / "config.json").is_file()
    assert "cct_2_3x2_32" in run_client("-c", WITHOUT_EXTRAS, "info", "cct_2_3x2_32")
    assert "cct_2_3x2_32" in run_client("-c", WITHOUT_EXTRAS, "list", "cct*")


def test_info_of_weights_tells_what_they_are(tmp_path: Path) -> None:
    saved = hv.save_pretrained(tiny(), tmp_path / "saved")
    for name in (saved, f"local-dir:{saved}", saved / "model.safetensors"):
        shown = output("info", name)
        assert "cct_2_3x2_32, licence mit" in shown
        assert "5 classes, 3 channels, tables for 24x32" in shown
        assert f"sha256 {sha256_of(saved / 'model.safetensors')}" in shown
        assert "layout: hybridvit" in shown
    facts = json.loads(output("info", saved, "--json"))
    assert facts["labels"] == list(LABELS)
    assert facts["resolved"]["files"]["config.json"]["sha256"] == sha256_of(saved / "config.json")


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


def test_info_of_a_name_under_a_lock_is_that_of_its_weights(tmp_path: Path) -> None:
    name, lock = "cct_2_3x2_32.fmnist", tmp_path / "w.lock"
    hv.lock(name, lock)
    assert "file: " in output("info", name, "--lock", lock)
    assert "file: " in output("info", name, "--cache-dir", tmp_path)
    assert "file: " not in output("info", name)
    data = json.loads(lock.read_text())
    (file,) = data["weights"][name]["files"].values()
    file["sha256"] = "0" * 64
    lock.write_text(json.dumps(data))
    assert f"of {name} is not the file in {lock}" in message("info", name, "--lock", lock)


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
