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
from hybridvit.benchmark.records import Figure, Spread, Unit
from hybridvit.benchmark.tables import terminal_table
from tests.benchmark.examples import THEIRS, example


def test_ratio_is_of_paired_rounds() -> None:
    """The median of 6/1, 4/2 and 9/9 is 2; the ratio of the medians would be 3."""
    assert THEIRS.ratio is not None
    assert THEIRS.ratio.median == 2.0
    assert THEIRS.ratio == Spread.of([6.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("unit", "median"), [("s", 2.0), ("MiB", 2.0), ("images/s", 0.5), ("share", None), ("tokens", None)]
)
def test_above_one_ours_is_better(unit: Unit, median: float | None) -> None:
    ours = Figure.of(unit, [1.0, 2.0, 3.0])
    ratio = Figure.of(unit, [2.0, 4.0, 6.0], ours).ratio
    assert (ratio and ratio.median) == median
    assert ours.ratio is None


def test_spread_and_digits() -> None:
    figure = Figure.of("s", [value / 1000 for value in range(1, 12)])
    assert figure.spread == Spread(median=0.006, p10=0.002, p90=0.01)
    assert Figure.of("s", [0.000123456789]).values == (0.000123457,)
    assert Figure.of("MiB", [0.0], Figure.of("MiB", [0.0])).ratio is None, "nothing over nothing"


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
        (lambda data: data["sides"][1].pop("failed"), r"sides\[1\]: Side lacks \['failed'\]"),
        (
            lambda data: data["sides"][1]["figures"]["latency"].update(unit="ms"),
            r"figures: latency: unit: expected .*'ms'",
        ),
        (lambda data: data["sides"][1]["settings"].update(layout=1), r"settings: layout: expected .*str"),
        (lambda data: data["settings"].update(precision="fp8"), r"settings: precision.*'fp8'"),
        (lambda data: data.update(img_size=[224]), r"img_size"),
        (lambda data: data.update(batch="4"), r"batch: expected .*int.*'4'"),
        (lambda data: data.update(batch=True), r"batch: expected .*int.*True"),
        (lambda data: data.update(machine="fast"), r"machine: expected the fields of Machine"),
        (lambda data: data.update(allocator={"MALLOC_ARENA_MAX": 1}), r"allocator"),
        (lambda data: data.update(format=1), r"format 1"),
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
    assert "inference: device cuda:0, bf16, compile mode default, 3 threads" in lines[0]
    assert "a GPU, a CPU, 16 cores, 64 GiB" in lines[0]
    assert "peaks: 800 GFLOP/s, 100 GB/s" in lines[0]
    assert "MALLOC_TRIM_THRESHOLD_=1" in lines[0]
    assert "0123456789ab-dirty, 2026-01-31" in lines[0]
    facts = "5.72M | 2.51 | 224x160 | 4"
    assert lines[2].endswith("| batch | latency, ms | latency: ratio | first call, ms | failed |")
    assert lines[4:7] == [
        f"| vit_tiny_patch16_224 | hybridvit | {facts} | 2.00 (1.20-7.60) |  | 500.00 |  |",
        f"| vit_tiny_patch16_224 | timm | {facts} | 6.00 (4.40-8.40) | 2.00 (1.20-5.20) |  |  |",
        f"| vit_tiny_patch16_224 | torchvision | {facts} |  |  |  | out of memory |",
    ]
    assert len(lines) == 10
    table = terminal_table(example())
    assert table.row_count == 3
    title = "inference, vit_tiny_patch16_224, 224x160, batch 4, 5.72M parameters, 2.51 GFLOPs"
    assert table.title == title
    assert [column.header for column in table.columns][:2] == ["side", "latency, ms"]


def test_what_has_no_model_has_a_table_too() -> None:
    bare = dataclasses.replace(example(), model=None, batch=None, img_size=None, params=None, flops=None, peaks=None)
    assert "|  | hybridvit |  |  |  |  | 2.00 (1.20-7.60) |" in markdown([bare])
    assert terminal_table(bare).title == "inference"


def test_markdown_keeps_different_machines_apart() -> None:
    elsewhere = dataclasses.replace(example(), machine=dataclasses.replace(example().machine, cpu="another CPU"))
    text = markdown([example(), elsewhere])
    assert text.count("| model |") == 2
    assert text.index("a GPU, a CPU") < text.index("a GPU, another CPU")
