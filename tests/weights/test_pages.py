"""The generated pages are what code and data give now, and no checkpoint is missing without a reason."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from timm.models import list_models, list_modules

from hybridvit.registry import groups
from hybridvit.weights import pages
from hybridvit.weights.entries import WeightEntry, entries
from hybridvit.weights.from_timm import released
from hybridvit.weights.info import figures
from hybridvit.weights.schema import reporters
from hybridvit.zoo_path import zoo_path
from tests.weights.test_released import tags

AGAIN = "run `python -m hybridvit.weights.pages`"


def test_the_pages_are_what_code_and_data_give() -> None:
    docs, given = pages.docs_path(), pages.pages()
    assert {f"families/{path.name}" for path in (docs / "families").glob("*")} == given.keys() - {
        "zoo.md",
        "checkpoints.md",
    }, AGAIN
    stale = [name for name, text in given.items() if (docs / name).read_text(encoding="utf-8") != text]
    assert stale == [], AGAIN


def test_every_released_checkpoint_fits_or_is_explained() -> None:
    assert list(pages.fitting_tags()) == tags()
    assert len(tags()) >= 750
    assert pages.unexplained() == [], "write a spec, or say why not in zoo/left_out.json"
    left = [tag for tags in pages.left_out_tags().values() for tag in tags]
    assert not set(left) & set(tags())


def test_reasons_are_for_what_timm_has() -> None:
    architectures = {f"{module}/{name}" for module in list_modules() for name in released(list_models(module=module))}
    for row in json.loads((zoo_path() / "left_out.json").read_text()):
        assert row.keys() == {"reason", "models"}
        for pattern in row["models"]:
            assert fnmatch.filter(architectures, pattern), pattern


def test_a_page_tells_cost_parts_and_licences() -> None:
    page = pages.family_page("cvt")
    assert "| `cvt_13` | 20.00 M | 9.13 | 224 x 224 | 1 |" in page
    assert "10 x (ConvAttention 3x3 6 heads; Mlp 1536) | 384 | 16 | 14 x 14 + 1 |" in page
    row = "| [`cvt_13.ms_in1k`](https://huggingface.co/microsoft/cvt-13) | 1000 | 224 x 224 | 81.60 | cvt-readme |"
    assert f"{row} apache-2.0 |" in page
    assert (
        "`cvt-readme`: the authors' README, on ImageNet-1k's validation images ([f851e681, 2022-05-25](https://" in page
    )
    assert "[convolution-augmented attention](../zoo.md#convolution-augmented-attention)" in page
    assert "| 10 | 28 x 28 | - | - |" in pages.family_page("cct")
    assert "top-1 93.07% (measured here)" in pages.family_page("cct")
    assert "(https://github.com/rwightman/" in pages.family_page("gcvit")
    assert "(non-commercial)" in pages.family_page("vit_clip")


def test_figures_at_another_size_tell_it() -> None:
    reported = {"top1": 80.5, "img_size": 288, "source": "timm-results"}
    entry = WeightEntry(name="vit_tiny_patch16_224.a", source="hf:a/b", layout="timm", reported=reported)
    assert pages.reported_cells(entry) == ("80.50 at 288", "-", "timm-results")
    assert figures(reported) == "top-1 80.50% at 288"


def test_the_page_of_checkpoints_counts_all_of_them() -> None:
    page = pages.checkpoints_page()
    timms = len(pages.fitting_tags())
    assert f"| **all** | **{timms}** | **{len(entries()) - timms}** |" in page
    counts = [
        sum(bool(e.reported) and e.reported["source"] == name for e in entries().values()) for name in reporters()
    ]
    assert all(
        re.search(rf"\[{name}\]\(.*\| {count} \|", page) for name, count in zip(reporters(), counts, strict=True)
    )


def test_what_exports_is_told_once_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "docs_path", lambda: tmp_path)
    assert pages.export_facts("cvt") == []
    cells = {"cvt": {"result": "in part", "note": "multiples of 32"}, "pit": {"result": "yes"}}
    measured = {family: {"hybridvit": {"cells": {"dynamic_size": cell}}} for family, cell in cells.items()}
    measured["vit"] = {"hybridvit": {"cells": {}}}
    (tmp_path / "capabilities.json").write_text(json.dumps({"families": measured}))
    told = "[Exported](../capabilities.md) with a size of run time:"
    assert pages.export_facts("cvt") == [f"{told} multiples of 32"]
    assert pages.export_facts("pit") == [f"{told} any"]
    assert pages.export_facts("vit") == pages.export_facts("swin") == []


def test_writing_says_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "docs_path", lambda: tmp_path)
    monkeypatch.setattr(pages, "pages", lambda: {"zoo.md": "new", "families/a.md": "same"})
    (tmp_path / "families").mkdir()
    for name in ("families/a.md", "families/gone.md"):
        (tmp_path / name).write_text("same")
    assert pages.write() == ["families/gone.md", "zoo.md"]
    assert sorted(path.name for path in tmp_path.rglob("*.md")) == ["a.md", "zoo.md"]


def test_papers_are_linked() -> None:
    assert pages.linked("a (arXiv 2103.15808), b (2209.15001)") == (
        "a ([arXiv 2103.15808](https://arxiv.org/abs/2103.15808)), b ([2209.15001](https://arxiv.org/abs/2209.15001))"
    )
    assert pages.linked("arXiv:2103.15808") == "[arXiv 2103.15808](https://arxiv.org/abs/2103.15808)"


def test_the_navigation_has_every_family() -> None:
    spec = importlib.util.spec_from_file_location("nav", pages.docs_path() / "nav.py")
    assert spec is not None
    assert spec.loader is not None
    nav: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nav)
    config = nav.on_config({"nav": [{"Overview": "index.md"}, {"Zoo": [{"All families": "zoo.md"}]}]})
    listed = {next(iter(section)): section for section in config["nav"][1]["Zoo"]}
    for group, families in groups().items():
        assert listed[group][group] == [{family: f"families/{family}.md"} for family in sorted(families)]


def test_a_family_without_entries() -> None:
    assert pages.family_page("coatnet").endswith("## Checkpoints\n\nThe zoo has none.\n")
