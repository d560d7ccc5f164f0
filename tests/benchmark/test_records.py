"""The schema of results: closed, typed, and never half-written."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridvit.benchmark import BenchmarkError, append_result, markdown, read_results
from hybridvit.benchmark.records import Side, Spread
from hybridvit.benchmark.tables import HEADER, terminal_table
from tests.benchmark.examples import OURS_MS, THEIRS_MS, example


def test_ratio_is_of_paired_rounds() -> None:
    """The median of 6/1, 4/2 and 9/9 is 2; the ratio of the medians would be 3."""
    ratio = Side.of("timm", THEIRS_MS, OURS_MS, batch=1, first_call_s=0).ratio
    assert ratio is not None
    assert ratio.median == 2.0
    assert ratio == Spread.of([6.0, 2.0, 1.0])


def test_spread_and_throughput() -> None:
    side = Side.of("hybridvit", [float(ms) for ms in range(1, 12)], None, batch=3, first_call_s=0)
    assert side.latency_ms == Spread(median=6.0, p10=2.0, p90=10.0)
    assert side.images_per_second == Spread(median=500.0, p10=300.0, p90=1500.0)
    assert side.ratio is None


def test_results_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    other = dataclasses.replace(example(), model="cvt_13", commit=None, difference=None)
    append_result(path, example())
    append_result(path, other)
    assert len(path.read_text().splitlines()) == 2
    assert read_results(path) == [example(), other]


def write(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = dataclasses.asdict(example())
    change(data)
    path.write_text(json.dumps(dataclasses.asdict(example())) + "\n" + json.dumps(data) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("commit"), r"results.jsonl:2: Result lacks \['commit'\]"),
        (lambda data: data.update(speed=3), r"unknown \['speed'\]"),
        (lambda data: data["sides"][1].pop("ratio"), r"sides\[1\]: Side lacks \['ratio'\]"),
        (lambda data: data["settings"].update(precision="fp8"), r"settings: precision.*'fp8'"),
        (lambda data: data.update(img_size=[224]), r"img_size"),
        (lambda data: data.update(batch="4"), r"batch: expected .*int.*'4'"),
        (lambda data: data.update(batch=True), r"batch: expected .*int.*True"),
        (lambda data: data.update(machine="fast"), r"machine: expected the fields of Machine"),
        (lambda data: data.update(allocator={"MALLOC_ARENA_MAX": 1}), r"allocator"),
        (lambda data: data.update(format=2), r"format 2"),
    ],
)
def test_what_is_outside_the_schema_is_an_error(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = tmp_path / "results.jsonl"
    write(path, change)
    with pytest.raises(BenchmarkError, match=message):
        read_results(path)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, example())
    path.write_text(path.read_text() + '{"model": "vi')
    with pytest.raises(BenchmarkError, match=r"results.jsonl:2: not JSON"):
        read_results(path)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, example())
    before = path.read_bytes()
    write_all = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write_all(descriptor, line[:10]))
    with pytest.raises(OSError, match="disk is full"):
        append_result(path, example())
    assert path.read_bytes() == before


def test_tables_show_every_side() -> None:
    lines = markdown([example(), dataclasses.replace(example(), batch=8)]).splitlines()
    assert "a GPU, a CPU, 16 cores, 64 GiB; device cuda:0, bf16, torch.compile, 3 threads" in lines[0]
    assert "MALLOC_TRIM_THRESHOLD_=1" in lines[0]
    assert "0123456789ab-dirty, 2026-01-31" in lines[0]
    ours = "| vit_tiny_patch16_224 | hybridvit | 5.72M | 2.51 | 224x160 | 4 | 2.0 (1.2-7.6) | 2000.0 |  |  |"
    theirs = (
        "| vit_tiny_patch16_224 | timm | 5.72M | 2.51 | 224x160 | 4 | 6.0 (4.4-8.4) | 666.7 | 2.00 (1.20-5.20) |  |"
    )
    assert lines[4:6] == [ours, theirs]
    assert len(lines) == 8
    table = terminal_table([example()])
    assert [column.header for column in table.columns] == list(HEADER)
    assert table.row_count == 2


def test_markdown_keeps_different_machines_apart() -> None:
    elsewhere = dataclasses.replace(example(), machine=dataclasses.replace(example().machine, cpu="another CPU"))
    text = markdown([example(), elsewhere])
    assert text.count("| model |") == 2
    assert text.index("a GPU, a CPU") < text.index("a GPU, another CPU")
