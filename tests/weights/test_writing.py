"""Entries as TOML, and the merge of generated ones with the others."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridvit.weights.writing import read, toml_entry, update

MINE = "vit_tiny_patch16_224.mine"
VALID = {"source": "hf:me/vit", "layout": "timm"}


def timms(name: str, entry: Mapping[str, Any]) -> bool:
    return entry["source"].startswith("hf:timm/")


def test_values_come_back() -> None:
    entry = {"a": 'a "b" \\ c\n\x1b', "b": [1, 2.5, "x"], "c": {"d": [0.5] * 3, "e": True}, "f": 3}
    assert tomllib.loads(toml_entry("x.y", entry | {"left out": {}})) == {"x.y": entry}


def test_updating_keeps_entries_of_other_origin(tmp_path: Path) -> None:
    path = tmp_path / "vit.toml"
    gone = {"source": "hf:timm/gone", "layout": "timm"}
    path.write_text(toml_entry(MINE, VALID) + toml_entry("vit_tiny_patch16_224.gone", gone))
    new = {"vit_tiny_patch16_224.new": {"source": "hf:timm/new", "layout": "timm", "preprocess": {}}}
    changes = update(path, new, timms, "timm", new)
    assert changes == ["added vit_tiny_patch16_224.new", "removed vit_tiny_patch16_224.gone"]
    assert read(path) == {"vit_tiny_patch16_224.new": {"source": "hf:timm/new", "layout": "timm"}, MINE: VALID}
    assert update(path, new, timms, "timm", new) == []


def test_weights_without_a_download_come_first_then_timms(tmp_path: Path) -> None:
    path = tmp_path / "vit.toml"
    entries = {
        "a.hand": {"source": "hf:me/a", "layout": "transformers"},
        "a.tv": {"source": "url:https://b.c/d.pth", "layout": "torchvision"},
        "a.elsewhere": {"source": "hf:apple/a", "layout": "timm"},
        "a.zoo": {"source": "zoo:weights/a.safetensors", "layout": "hybridvit"},
        "a.pypi": {"source": "pypi:module/a.pth", "layout": "hybridvit"},
    }
    path.write_text("".join(toml_entry(*item) for item in entries.items()))
    new = {"a.new": {"source": "url:https://b.c/new.pth", "layout": "torchvision"}}
    update(path, new, lambda name, entry: entry["layout"] == "torchvision", "torchvision", ["a.elsewhere"])
    assert list(read(path)) == ["a.zoo", "a.pypi", "a.elsewhere", "a.new", "a.hand"]


def test_nothing_is_written_for_no_entries(tmp_path: Path) -> None:
    path = tmp_path / "vit.toml"
    assert update(path, {}, timms, "timm", ()) == []
    assert not list(tmp_path.iterdir())
    path.write_text(toml_entry("a.gone", {"source": "hf:timm/gone", "layout": "timm"}))
    assert update(path, {}, timms, "timm", ()) == ["removed a.gone"]
    assert not list(tmp_path.iterdir())


def test_the_tags_of_an_architecture_stand_together(tmp_path: Path) -> None:
    path, tv = tmp_path / "vit.toml", {"source": "url:https://b.c/d.pth", "layout": "torchvision"}
    path.write_text(toml_entry("vit_small_patch16_224.tv", tv) + toml_entry("vit_tiny_patch16_224.tv", tv))
    new = {f"vit_{size}_patch16_224.new": {"source": "hf:timm/x", "layout": "timm"} for size in ("tiny", "small")}
    update(path, new, timms, "timm", new)
    assert list(read(path)) == [f"vit_{size}_patch16_224.{tag}" for size in ("tiny", "small") for tag in ("new", "tv")]
