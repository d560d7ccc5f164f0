"""What an entry may hold: each kind of mistake is one error that names the file, the entry, the field and the value."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hybridvit.families import family_names, load_family
from hybridvit.weights import schema
from hybridvit.weights.entries import WeightEntry, entries, read_entry
from hybridvit.weights.labels import LABEL_SETS
from hybridvit.weights.layouts import layouts_of
from hybridvit.weights.schema import CHECKS, LAYOUTS, licences, reporters
from hybridvit.zoo_path import zoo_path

VALID: dict[str, Any] = {"source": "hf:me/vit", "layout": "timm"}
NAME = "vit_tiny_patch16_224.mine"
URL = "url:https://example.org/a/vit-0123abcd.pth"
FIGURES = {"top1": 80.5, "source": "timm-results"}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"sourse": "x"}, "no field 'sourse'. Did you mean 'source'"),
    ({"name": "x"}, "no field 'name'"),
    ({"source": 3}, "source: must be hf:ORG/NAME"),
    ({"source": "me/vit"}, "source: must be hf:ORG/NAME"),
    ({"source": "hf:vit"}, "source: must be hf:ORG/NAME"),
    ({"source": "hf:me/vit/model.safetensors"}, "source: must be hf:ORG/NAME"),
    ({"source": "ftp:me/vit"}, "source: must be hf:ORG/NAME"),
    ({"source": "zoo:../secret"}, "source: must be hf:ORG/NAME"),
    ({"source": "url:http://example.org/vit.pth"}, "source: must be hf:ORG/NAME"),
    ({"source": "url:https://example.org/vit.zip"}, "source: must end with one of .safetensors, .bin"),
    ({"source": "url:https://example.org/vit.pth?token=1"}, "source: must be hf:ORG/NAME"),
    ({"layout": "tim"}, "layout: must be one of hybridvit, timm, .* Did you mean 'timm'"),
    ({"layout": ["timm"]}, "layout: must be one of hybridvit"),
    ({"file": "model.h5"}, "file: must be the name of a file that ends with"),
    ({"file": "model.bin", "source": URL}, "file: only a repository on the Hub"),
    ({"sha256": "0123ABCD", "source": URL}, "sha256: must be 8 to 64 hexadecimal digits"),
    ({"sha256": "0123abcd"}, "sha256: only a file behind a url: has one"),
    ({"prefix": ""}, "prefix: must be text"),
    ({"licence": "apache-2"}, "licence: must be one of apache-2.0, .* Did you mean 'apache-2.0'"),
    ({"num_classes": 10.0}, "num_classes: must be a whole number from 0 up"),
    ({"num_classes": True}, "num_classes: must be a whole number from 0 up"),
    ({"num_classes": -1}, "num_classes: must be a whole number from 0 up"),
    ({"in_chans": 0}, "in_chans: must be a whole number from 1 up"),
    ({"in_chans": 1}, "preprocess: mean and std of 3 channels for in_chans = 1"),
    ({"paper": "2103.15808"}, "paper: must be arXiv:NUMBER"),
    ({"paper": "arXiv:2103.15808,arXiv:2103.15808"}, "paper: must be arXiv:NUMBER"),
    ({"preprocess": 224}, "preprocess: must be a table"),
    ({"preprocess": {"crop": 1}}, "preprocess: preprocess has no field 'crop'. Did you mean 'crop_pct'"),
    ({"preprocess": {"crop_pct": 2.0}}, "preprocess: crop_pct must be in"),
    ({"preprocess": {"crop_pct": "0.9"}}, "preprocess: crop_pct must hold float"),
    ({"preprocess": {"input_size": 224}}, "preprocess: input_size must be a list of 2"),
    ({"preprocess": {"input_size": [3, 224, 224]}}, "preprocess: input_size must be a list of 2"),
    ({"preprocess": {"input_size": [224.0, 224.0]}}, "preprocess: input_size must hold int"),
    ({"preprocess": {"interpolation": "cubic"}}, "preprocess: interpolation must be one of"),
    ({"preprocess": {"mean": [0.5, 0.5]}}, "preprocess: mean and std need one value a channel"),
    ({"donor": "vit_small_patch16_224"}, "donor: needs covers"),
    ({"donor": "vit_smal_patch16_224", "covers": ["stages."]}, "donor: no architecture .* Did you mean"),
    ({"covers": "stages."}, "covers: must be a list of names"),
    ({"covers": []}, "covers: must be a list of names"),
    ({"labels": "imagenet-2k"}, "labels: must be one of imagenet-1k, .* Did you mean"),
    ({"labels": ["a", 3]}, "labels: must be a list of names"),
    ({"labels": ["a", "b"]}, "labels: 2 names for 1000 classes"),
    ({"labels": "imagenet-12k"}, "labels: 11821 names for 1000 classes"),
    ({"reported": 80.5}, "reported: must be a table with top1 and source"),
    ({"reported": {"top1": 80.5}}, "reported: must be a table with top1 and source"),
    ({"reported": FIGURES | {"top1": "80.5"}}, "reported: top1 must be a number of percent"),
    ({"reported": FIGURES | {"top5": 101}}, "reported: top5 must be a number of percent"),
    ({"reported": FIGURES | {"img_size": 224.5}}, "reported: img_size must be a whole number"),
    ({"reported": FIGURES | {"source": "me"}}, "reported: source must be one of timm-results"),
    ({"reported": FIGURES | {"map": 3}}, "reported: has no 'map'; it has: top1, top5, img_size, source"),
    ({"measured": FIGURES}, "measured: source must be zoo:FILE"),
    ({"measured": FIGURES | {"source": "zoo:nothing.md"}}, "measured: source must be zoo:FILE"),
    ({"note": 3}, "note: must be text"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda value: json.dumps(value)[:60])
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^zoo/vit.toml: entry {re.escape(NAME)}: {message}"):
        read_entry(NAME, VALID | changes, "zoo/vit.toml")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("vit_tinny_patch16_224.mine", VALID, "no architecture 'vit_tinny_patch16_224'. Did you mean"),
        ("vit_tiny_patch16_224", VALID, "no tag; a name is ARCHITECTURE.TAG"),
        (NAME, {"layout": "timm"}, "no source; every entry says its source and its layout"),
        (NAME, {"source": "hf:me/vit"}, "no layout; every entry"),
    ],
)
def test_a_wrong_name_or_a_missing_field(name: str, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^entry {re.escape(name)}: {message}"):
        read_entry(name, data)


def test_every_field_is_checked_and_tried() -> None:
    assert CHECKS.keys() == WeightEntry.__dataclass_fields__.keys() - {"name"}
    assert CHECKS.keys() <= {message.partition(":")[0] for _, message in WRONG}


def test_all_that_may_be_there() -> None:
    data = VALID | {
        "source": URL,
        "sha256": "0123abcd",
        "prefix": "visual.",
        "licence": "mit",
        "paper": "arXiv:2103.15808, arXiv:2010.11929",
        "labels": "imagenet-1k",
        "preprocess": {"input_size": [224, 192], "mean": [0, 0, 0], "crop_pct": 1},
        "reported": FIGURES | {"top5": 95, "img_size": 288},
        "measured": {"top1": 80.4, "source": "zoo:weights/README.md"},
        "note": "",
    }
    entry = read_entry(NAME, data)
    assert entry.preprocess.input_size == (224, 192)
    assert entry.reported == {"top1": 80.5, "top5": 95, "img_size": 288, "source": "timm-results"}


def test_layouts_are_those_that_are_read() -> None:
    known = {name for family in family_names() for name in layouts_of(load_family(family))}
    assert {"hybridvit", *known} == set(LAYOUTS)


def test_licences_and_reporters_are_used() -> None:
    assert {entry.licence for entry in entries().values()} == licences().keys()
    assert {entry.reported["source"] for entry in entries().values() if entry.reported} == reporters().keys()
    assert licences()["apple-amlr"].commercial is False
    assert licences()["unknown"].commercial is None


def test_entries_use_the_sets_of_classes() -> None:
    """A classifier whose number of classes is that of a set has names; an embedding has none."""
    for entry in entries().values():
        classified = entry.num_classes in LABEL_SETS.values() and not entry.covers
        assert bool(entry.labels) == classified, entry.name


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("licences.json", {"title": "A"}, "x must have just the fields title, commercial"),
        ("licences.json", {"title": "A", "commercial": "no"}, "x: commercial: must be true, false or null, got 'no'"),
        ("licences.json", {"title": "", "commercial": True}, "x: title: must be text"),
        ("reported.json", ["a"], "x must have just the fields what, url, version, date"),
        (
            "reported.json",
            {"what": "a", "url": "http://a", "version": "1", "date": "2026-01-01"},
            "x: url: must be an address",
        ),
        (
            "reported.json",
            {"what": "a", "url": "https://a", "version": "1", "date": "January"},
            "x: date: must be a day, YYYY-MM-DD",
        ),
    ],
)
def test_the_tables_are_closed(
    file: str, row: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).write_text(json.dumps({"x": row}))
    monkeypatch.setattr(schema, "zoo_path", lambda: tmp_path)
    read = {"licences.json": licences, "reported.json": reporters}[file]
    with pytest.raises(ValueError, match=f"zoo/{file}: {message}"):
        read.__wrapped__()


def test_files_behind_addresses_have_names_of_their_own() -> None:
    """The cache keeps them by name."""
    places = {entry.source for entry in entries().values() if entry.source.startswith("url:")}
    assert len({place.rpartition("/")[2] for place in places}) == len(places)
    assert all((zoo_path() / entry.source[4:]).is_file() for entry in entries().values() if entry.source[:4] == "zoo:")
