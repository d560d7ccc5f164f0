"""Committed results fit the schema, and what the documentation shows of them is made from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks import agreement
from benchmarks.pages import RESULTS, ROOT, filled, pages
from hybridvit.benchmark import BenchmarkError, append_result, read_results
from tests.benchmark.examples import example

AGAIN = "run `python -m benchmarks.pages`"


def test_every_committed_result_fits_the_schema() -> None:
    for path in set(RESULTS.glob("*")) - {agreement.FILE}:
        assert path.suffix == ".jsonl", path.name
        results = read_results(path)
        assert results, f"{path.name} is empty"
        for result in results:
            assert result.commit is not None, f"{path.name}: nobody can say what was measured"


def test_tables_in_the_docs_are_what_the_results_say() -> None:
    for path in pages():
        assert filled(path.read_text()) == path.read_text(), f"{path.relative_to(ROOT)} is not up to date: {AGAIN}"


def test_a_table_is_made_from_the_file_that_it_names(tmp_path: Path) -> None:
    append_result(tmp_path / "some.jsonl", example())
    page = "before\n<!-- results: some.jsonl -->\nold\n<!-- end of results -->\nafter\n"
    text = filled(page, tmp_path)
    assert text.startswith("before\n<!-- results: some.jsonl -->\n\ninference: device cuda:0")
    assert "| vit_tiny_patch16_224 | timm |" in text
    assert text.endswith("\n<!-- end of results -->\nafter\n")
    assert "old" not in text
    assert filled(text, tmp_path) == text
    append_result(tmp_path / "some.jsonl", dataclasses.replace(example(), format=1))
    with pytest.raises(BenchmarkError, match=r"some\.jsonl:2"):
        filled(page, tmp_path)
