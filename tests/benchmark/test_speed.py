"""The summary of the speed of several models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from benchmarks.speed import ratios, summary
from hybridvit.benchmark.records import Figure, Peaks, Result, Side
from tests.benchmark.examples import example

SHARE = Figure.of("share", [0.25])


def timed(model: str, batch: int, seconds: Mapping[str, list[float]]) -> Result:
    sides = tuple(
        Side(name=name, settings={}, figures={"latency": Figure.of("s", values), "of matrix peak": SHARE}, failed=None)
        for name, values in seconds.items()
    )
    peaks = Peaks(matrix_gflops=100.0 + batch, copy_gbs=10.0)
    return dataclasses.replace(example(), model=model, batch=batch, sides=sides, peaks=peaks)


RESULTS = [
    timed("vit", 1, {"hybridvit": [1.0, 2.0, 1.0], "timm": [2.0, 4.0, 2.0], "timm channels_last": [1.5, 3.0, 1.5]}),
    timed("levit", 1, {"hybridvit": [1.0, 1.0], "timm": [8.0, 8.0]}),
    timed("cvt", 1, {"hybridvit": [1.0], "transformers": [0.5]}),
    timed("vit", 8, {"hybridvit": [4.0], "timm": [4.0]}),
]


def test_ratios_are_of_rounds_that_belong_together() -> None:
    assert ratios(RESULTS[:1], "hybridvit", "timm") == {"vit": 2.0}
    assert ratios(RESULTS[:1], "hybridvit", "timm compiled") == {}


def test_a_model_that_timm_lacks_is_compared_with_transformers() -> None:
    assert ratios(RESULTS[2:3], "hybridvit", "timm channels_last") == {"cvt": 0.5}
    assert ratios(RESULTS[2:3], "hybridvit", "timm compiled") == {}


def test_a_line_has_the_mean_and_both_ends() -> None:
    lines = summary(RESULTS).splitlines()
    assert "| hybridvit | timm | 1 | 3 | **2.00** | 0.50 `cvt` | 8.00 `levit` |" in lines
    assert "| hybridvit | timm channels_last | 1 | 2 | **0.87** | 0.50 `cvt` | 1.50 `vit` |" in lines
    assert "| hybridvit | timm | 8 | 1 | **1.00** | 1.00 `vit` | 1.00 `vit` |" in lines
    assert not any("compiled" in line for line in lines)
    assert lines[-1].startswith(
        "Share of the peak of a matrix product: at batch 1 hybridvit 25% to 25%, timm 25% to 25%"
    )
    assert sum("GFLOP/s" in line or "device cuda" in line for line in lines) == 1, "one run, one paragraph"
