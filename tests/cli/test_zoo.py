"""What models and weights there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hybridvit as hv
from hybridvit.cli import app
from hybridvit.registry import model_spec, spec_from_dict
from hybridvit.resolved import sha256_of
from hybridvit.weights.entries import entries
from tests.cli.runner import message, output
from tests.hub.conftest import run_python
from tests.weights.examples import LABELS, tiny


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
