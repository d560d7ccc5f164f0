"""The data of the zoo: a closed schema, and every fact that can be recomputed is."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import timm
import torch

from hybridvit.preprocess import Preprocess
from hybridvit.registry import UnknownNameError, family_of, index, model_spec
from hybridvit.weights.entries import WeightEntry, entries, entries_of, find_entry, is_non_commercial, read_entry
from hybridvit.weights.from_timm import LABEL_SETS, label_lines, timm_entries, toml_entry, update
from hybridvit.weights.layouts import layouts_of
from hybridvit.zoo_path import zoo_path

ENTRIES = list(entries().values())
VALID: dict[str, Any] = {"source": "hf:me/vit", "layout": "timm"}
NAME = "vit_tiny_patch16_224.mine"


def test_entries_lie_in_their_familys_file() -> None:
    for path in zoo_path().glob("*.toml"):
        families = {index()[name.partition(".")[0]].family for name in tomllib.loads(path.read_text())}
        assert families == {path.stem}, path.name


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_is_consistent(entry: WeightEntry) -> None:
    kind, _, place = entry.source.partition(":")
    assert kind in ("hf", "zoo", "pypi")
    assert entry.tag
    assert entry.layout == "hybridvit" or entry.layout in layouts_of(family_of(entry.donor or entry.architecture))
    assert len(entry.label_names()) in (0, entry.num_classes)
    assert entry.in_chans == entry.preprocess.channels
    assert entry.file.endswith((".safetensors", ".bin", ".pth"))
    assert bool(entry.donor) <= bool(entry.covers)
    if kind == "hf":
        assert place.count("/") == 1
    if kind == "zoo":
        assert (zoo_path() / place).is_file()


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.covers], ids=lambda entry: entry.name)
def test_what_an_entry_covers_is_the_same_in_its_donor(entry: WeightEntry) -> None:
    with torch.device("meta"):
        own, donor = (model_spec(name).build().state_dict() for name in (entry.architecture, entry.donor))
    shapes = [
        {key: tensor.shape for key, tensor in state.items() if key.startswith(entry.covers)} for state in (own, donor)
    ]
    assert shapes[0] == shapes[1] != {}
    for part in entry.covers:
        assert any(key.startswith(part) for key in own), part


def test_timms_entries_are_what_timm_says_now() -> None:
    for path in zoo_path().glob("*.toml"):
        names = [name for name, entry in index().items() if entry.family == path.stem]
        written = tomllib.loads(path.read_text())
        from_timm = {name: entry for name, entry in written.items() if entry["source"].startswith("hf:timm/")}
        expected = tomllib.loads("".join(toml_entry(*item) for item in timm_entries(names).items()))
        assert from_timm == expected, "run `python -m hybridvit.weights.from_timm`"


@pytest.mark.parametrize("subset", LABEL_SETS)
def test_label_files_are_what_timm_says_now(subset: str) -> None:
    assert (zoo_path() / "labels" / f"{subset}.txt").read_text() == label_lines(subset)


def test_timms_defaults_are_ours() -> None:
    """The weights of a name without a tag are those that timm takes, if they lie in one of timm's repositories."""
    for name in index():
        first = entries_of(name)[:1]
        if first and first[0].source.startswith("hf:timm/"):
            cfg = timm.get_pretrained_cfg(name)
            assert cfg is not None
            if str(cfg.hf_hub_id).startswith("timm/"):
                assert (first[0].architecture, first[0].tag) == (cfg.architecture, cfg.tag)


def test_updating_keeps_entries_of_other_origin(tmp_path: Any) -> None:
    path = tmp_path / "vit.toml"
    old = {NAME: VALID | {"labels": ["a", "b"]}, "vit_tiny_patch16_224.gone": {"source": "hf:timm/gone"}}
    path.write_text("".join(toml_entry(*item) for item in old.items()))
    new = {"vit_tiny_patch16_224.new": {"source": "hf:timm/new", "licence": 'a "licence"', "preprocess": {}}}
    changes = update(path, new)
    assert sorted(changes) == ["added vit_tiny_patch16_224.new", "removed vit_tiny_patch16_224.gone"]
    expected = {NAME: old[NAME], "vit_tiny_patch16_224.new": {"source": "hf:timm/new", "licence": 'a "licence"'}}
    assert tomllib.loads(path.read_text()) == expected
    assert update(path, new) == []


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (NAME, VALID | {"sourse": "x"}, "no field 'sourse'. Did you mean 'source'"),
        (NAME, VALID | {"name": "x"}, "no field 'name'"),
        (NAME, VALID | {"preprocess": {"crop": 1}}, "preprocess has no field 'crop'. Did you mean 'crop_pct'"),
        (NAME, VALID | {"preprocess": {"crop_pct": 2.0}}, "crop_pct must be in"),
        ("vit_tinny.mine", VALID, "entry vit_tinny.mine: no architecture 'vit_tinny'"),
    ],
)
def test_the_schema_is_closed(name: str, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_entry(name, data)


def test_an_entry_reads_what_it_was_written_with() -> None:
    data = VALID | {"labels": ["a", "b"], "num_classes": 2, "preprocess": {"input_size": [32, 48], "mean": [0.1] * 3}}
    entry = read_entry(NAME, data)
    assert (entry.architecture, entry.tag, entry.label_names()) == ("vit_tiny_patch16_224", "mine", ("a", "b"))
    assert entry.preprocess == Preprocess(input_size=(32, 48), mean=(0.1, 0.1, 0.1))
    assert read_entry(NAME, VALID | {"labels": "imagenet-1k"}).label_names()[207] == "golden retriever"


def test_finding_an_entry() -> None:
    assert find_entry("vit_tiny_patch16_224").name == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert find_entry("vit_tiny_patch16_224.augreg_in21k").num_classes == 21843


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch61_224", "no model 'vit_tiny_patch61_224'. Did you mean 'vit_tiny_patch16_224'"),
        ("vit_tiny_patch16_224.augreg_in21", "no tag 'augreg_in21'. Did you mean 'augreg_in21k'"),
        ("cct_7_3x2_32", "cct_7_3x2_32 has no released weights here; pretrained=False starts from scratch"),
    ],
)
def test_a_name_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        find_entry(name)


def test_non_commercial_licences_are_recognised() -> None:
    assert is_non_commercial("cc-by-nc-4.0")
    assert is_non_commercial("fair-noncommercial-research-license")
    assert not is_non_commercial("apache-2.0")
    assert any(entry.non_commercial for entry in ENTRIES)
