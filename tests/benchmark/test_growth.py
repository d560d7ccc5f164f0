"""Curves of memory and time against tokens, and what was measured of every family."""

from __future__ import annotations

import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import growth as measured
from benchmarks.growth import CURVES, FAMILIES, LARGEST, LIMIT_MIB, SELECTION, needs, slopes
from hybridvit.benchmark import BenchmarkError, Result, read_results
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.growth import Point, Quantity, beyond_weights, curves, plot, slope
from hybridvit.benchmark.records import Figure, Settings, Side
from hybridvit.benchmark.run import SIZES
from hybridvit.families import family_names
from hybridvit.registry import index
from tests.benchmark.examples import example

WEIGHTS = 10.0


def result(tokens: int, peak: float, seconds: float, model: str = "vit_tiny_patch16_224") -> Result:
    figures = {"tokens": Figure.of("tokens", [tokens]), "inference peak": Figure.of("MiB", [WEIGHTS + peak])}
    figures["inference time"] = Figure.of("s", [seconds])
    side = Side(name="hybridvit", settings={}, figures=figures)
    params = int(WEIGHTS * 2**20 / 4)
    return replace(example(), suite="memory", model=model, params=params, sides=(side,))


GROWING = [result(n, n / 4, n**2 / 1e6) for n in (4096, 1024, 256)]


def test_curves_are_by_tokens_and_without_weights() -> None:
    assert curves(GROWING, "memory") == {"vit_tiny_patch16_224": [Point(256, 64), Point(1024, 256), Point(4096, 1024)]}
    assert beyond_weights(GROWING[0]) == 1024
    assert curves([replace(GROWING[0], suite="inference")], "time") == {}
    assert curves(GROWING, "time", side="timm") == {}


def test_slopes_tell_lines_from_squares() -> None:
    by_quantity: dict[Quantity, float] = {"memory": 1, "time": 2}
    for quantity, power in by_quantity.items():
        (points,) = curves(GROWING, quantity).values()
        assert slope(points) == pytest.approx(power, abs=1e-3)
    early = [Point(1, 1000), Point(64, 10), Point(256, 40), Point(1024, 160)]
    assert slope(early) == pytest.approx(1), "small sizes do not count"
    with pytest.raises(BenchmarkError, match="two sizes"):
        slope(early[:1])


def test_the_plot_tells_slopes_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot(GROWING, tmp_path / "a.svg", "time")
    plot(GROWING, tmp_path / "b.svg", "time")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")
    for words in ("vit_tiny_patch16_224: slope 2.00", "tokens behind the stem", "time of one image, s"):
        assert f"<!-- {words}" in text
    with pytest.raises(BenchmarkError, match="two sizes"):
        plot(GROWING[:1], tmp_path / "c.svg", "time")
    assert not (tmp_path / "c.svg").exists()


def test_tables_have_the_hungriest_and_the_steepest_first() -> None:
    lean = [result(n, n / 8 + 100, n / 1e6, model="swin_tiny_patch4_window7_224") for n in (4096, 1024, 256)]
    lines = needs([lean[0], GROWING[0]]).splitlines()[-2:]
    assert lines[0] == "| vit | vit_tiny_patch16_224 | 4096 | 10 | 1024 |"
    assert lines[1].startswith("| swin |")
    assert (
        slopes([*lean, *GROWING]).splitlines()[-2].startswith("| vit_tiny_patch16_224 | 1.00 | 2.00 | 64, 256, 1024 |")
    )


def test_a_table_names_every_commit_that_it_was_measured_at() -> None:
    first, second = (replace(GROWING[0], commit=40 * letter) for letter in "ab")
    assert "Some at" not in needs([first, first])
    for table in (needs([first, second, first]), slopes([first, replace(GROWING[1], commit=second.commit)])):
        assert f"at {12 * 'a'}, " in table
        assert f" Some at {12 * 'b'} instead of {12 * 'a'}." in table


def test_what_is_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def memory(case: Case, names: object, works: object, calls: int) -> Result:
        asked.append((case.model, case.img_size[0]))
        return replace(result(256, 1, 1, case.model), img_size=case.img_size)

    monkeypatch.setattr(measured, "memory", memory)
    for sizes in ([(224, 224)], [(224, 224), (384, 384)]):
        measured.measure(["resnet18"], sizes, Settings(), tmp_path / "a.jsonl")
    assert asked == [("resnet18", 224), ("resnet18", 384)]
    assert len(read_results(tmp_path / "a.jsonl")) == 2


def test_no_measured_family_takes_more_than_the_page_states() -> None:
    results = read_results(FAMILIES)
    assert {index()[result.model or ""].family for result in results} == set(family_names())
    assert all(result.img_size == LARGEST for result in results)
    needed = {result.model: beyond_weights(result) for result in results}
    assert max(value or 0 for value in needed.values()) <= LIMIT_MIB, needed
    page = (measured.ROOT / "docs" / "growth.md").read_text()
    assert f"at most {LIMIT_MIB / 1024:g} GiB" in page


def test_the_curves_are_drawn_from_the_results() -> None:
    results = read_results(CURVES)
    assert {result.model for result in results} <= set(SELECTION)
    assert {result.img_size for result in results} == set(SIZES)
    drawn: dict[str, Quantity] = {"growth-memory.svg": "memory", "growth-time.svg": "time"}
    for file, quantity in drawn.items():
        text = (measured.ROOT / "docs" / file).read_text()
        for model, points in curves(results, quantity).items():
            assert f"<!-- {model}: slope {slope(points):.2f}" in text, (
                f"run `python -m benchmarks.growth plots`: {model}"
            )
