"""Reported accuracy against measured speed."""

from __future__ import annotations

import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from hybridvit.benchmark import BenchmarkError, Result
from hybridvit.benchmark.pareto import Point, frontier, plot, points
from hybridvit.benchmark.records import Figure, Settings, Side
from hybridvit.weights.entries import find_entry
from tests.benchmark.examples import example


def result(model: str, seconds: float, batch: int | None = 8, img_size: tuple[int, int] = (224, 224)) -> Result:
    speed = {"latency": Figure.of("s", [seconds])} if batch else {"throughput": Figure.of("images/s", [8 / seconds])}
    sides = (Side(name="hybridvit", settings={}, figures=speed),)
    return replace(example(), model=model, batch=batch, img_size=img_size, sides=sides)


def test_a_point_is_a_reported_accuracy_and_a_measured_speed() -> None:
    (point,) = points([result("levit_128s", 0.08)])
    entry = find_entry("levit_128s.fb_dist_in1k")
    assert entry.reported is not None
    assert point[:3] == ("levit_128s.fb_dist_in1k", "timm-results", entry.reported["top1"])
    assert point.images_per_second == pytest.approx(100)
    (best_batch,) = points([result("levit_128s", 0.08, batch=None)])
    assert best_batch.images_per_second == pytest.approx(100)


def test_what_was_measured_at_another_size_or_reported_by_nobody_has_no_point() -> None:
    assert points([result("levit_128s", 0.08, img_size=(288, 288))]) == []
    assert points([result("vit_tiny_lite0_s16_224", 0.08)]) == []
    assert points([replace(result("levit_128s", 0.08), suite="training")]) == []
    assert points([result("levit_128s", 0.08)], side="timm") == []


def test_the_fastest_measurement_of_a_model_counts() -> None:
    (point,) = points([result("levit_128s", 0.08), result("levit_128s", 0.04), result("levit_128s", 0.16)])
    assert point.images_per_second == pytest.approx(200)


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    fast, good, beaten, same_speed = (
        Point("fast", "", 70, 100),
        Point("good", "", 80, 50),
        Point("beaten", "", 69, 60),
        Point("same speed", "", 65, 100),
    )
    assert frontier([beaten, good, same_speed, fast]) == [fast, good]


def test_the_plot_names_sources_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = [result("levit_128s", 0.08), result("cvt_13", 0.8), result("levit_256", 0.2)]
    plot(results, tmp_path / "a.svg")
    plot(results, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")
    for words in ("reported by timm-results", "reported by cvt-readme", "images/s of hybridvit, measured: a GPU"):
        assert f"<!-- {words}" in text


def test_speeds_of_different_conditions_are_not_drawn_together(tmp_path: Path) -> None:
    elsewhere = replace(result("levit_256", 0.2), settings=Settings(precision="fp16"))
    with pytest.raises(BenchmarkError, match="different conditions"):
        plot([result("levit_128s", 0.08), elsewhere], tmp_path / "a.svg")
    with pytest.raises(BenchmarkError, match="reported accuracy"):
        plot([result("vit_tiny_lite0_s16_224", 0.08)], tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
