"""The data of the zoo: every entry is consistent, and every fact that can be recomputed is."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import timm
import torch

from hybridvit.preprocess import Preprocess
from hybridvit.registry import UnknownNameError, build_tags, family_of, index, model_spec, tags
from hybridvit.weights.entries import (
    WeightEntry,
    entries,
    entries_in,
    entries_of,
    find_entry,
    is_entry,
    is_non_commercial,
    read_entry,
)
from hybridvit.weights.layouts import layouts_of
from hybridvit.zoo_path import zoo_path

ENTRIES = list(entries().values())
VALID: dict[str, Any] = {"source": "hf:me/vit", "layout": "timm"}
NAME = "vit_tiny_patch16_224.mine"


def test_entries_lie_in_their_familys_file() -> None:
    for path in zoo_path().glob("*.toml"):
        families = {index()[name.partition(".")[0]].family for name in tomllib.loads(path.read_text())}
        assert families == {path.stem}, path.name


def test_the_list_of_tags_is_that_of_the_entries() -> None:
    listed = {name: list(of_model) for name, of_model in tags().items()}
    assert list(listed.items()) == list(build_tags().items()), "run `python -m hybridvit.registry` after adding weights"
    assert {f"{name}.{tag}" for name, of_model in listed.items() for tag in of_model} == entries().keys()


def test_finding_an_entry_reads_the_file_of_its_family_alone() -> None:
    entries_in.cache_clear()
    find_entry("vit_tiny_patch16_224.augreg_in21k")
    assert entries_of("no_such_model") == []
    assert not is_entry("vit_tiny_patch16_224")
    assert not is_entry("no_such_model.tag")
    assert entries_in.cache_info().currsize == 1


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_is_consistent(entry: WeightEntry) -> None:
    assert entry.layout == "hybridvit" or entry.layout in layouts_of(family_of(entry.donor or entry.architecture))
    assert len(entry.label_names()) in (0, entry.num_classes)
    if entry.reported:
        assert entry.reported.get("img_size") not in entry.preprocess.input_size


def test_what_is_downloaded_as_a_pickle() -> None:
    """Files behind addresses, and of repositories only those whose authors have nothing else."""
    pickles = {entry.name for entry in ENTRIES if entry.pickled and entry.source.startswith("hf:")}
    assert pickles == {f"swiftformer_{size}_unscored.mbzuai_in1k" for size in ("s", "l1", "l3")}
    assert all(entry.pickled for entry in ENTRIES if entry.source.startswith("url:"))


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.donor], ids=lambda entry: entry.name)
def test_what_an_entry_covers_is_the_same_in_its_donor(entry: WeightEntry) -> None:
    with torch.device("meta"):
        own, donor = (model_spec(name).build().state_dict() for name in (entry.architecture, entry.donor))
    shapes = [
        {key: tensor.shape for key, tensor in state.items() if key.startswith(entry.covers)} for state in (own, donor)
    ]
    assert shapes[0] == shapes[1] != {}
    for part in entry.covers:
        assert any(key.startswith(part) for key in own), part


def test_timms_defaults_are_ours() -> None:
    """A name without a tag has the weights that timm takes; ahead of them are only those without a download."""
    for name in index():
        first = [entry for entry in entries_of(name) if not entry.source.startswith(("zoo:", "pypi:"))][:1]
        if first and timm.is_model(name) and first[0].layout != "torchvision":
            cfg = timm.get_pretrained_cfg(name)
            assert cfg is not None
            assert (first[0].architecture, first[0].tag) == (cfg.architecture, cfg.tag)


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
    assert is_non_commercial("CC-BY-NC-SA-4.0")
    assert is_non_commercial("apple-amlr")
    assert not is_non_commercial("unknown")
    assert find_entry("gcvit_tiny.in1k").non_commercial, "timm's own file says so, its registry does not"
    assert find_entry("vit_base_patch16_384.tv_swag_e2e_in1k").non_commercial
