"""Regressions and noise, on results whose rounds the test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hybridvit.benchmark import BenchmarkError, Change, Result, compare, report
from hybridvit.benchmark.records import Figure, Side, Unit
from tests.benchmark.examples import example


def noisy(median: float, spread: float = 0.02, rounds: int = 20, seed: int = 0) -> list[float]:
    return (median * (1 + spread * np.random.default_rng(seed).standard_normal(rounds))).tolist()


def result(sides: dict[str, Sequence[float]], unit: Unit = "s", figure: str = "latency") -> Result:
    made = tuple(
        Side(name=name, settings={}, figures={figure: Figure.of(unit, values)}) for name, values in sides.items()
    )
    return replace(example(), sides=made)


def only(changes: list[Change]) -> Change:
    (change,) = changes
    return change


@pytest.mark.parametrize(
    ("unit", "before", "after", "verdict"),
    [
        ("s", noisy(1.0), noisy(1.2, seed=1), "worse"),
        ("s", noisy(1.2), noisy(1.0, seed=1), "better"),
        ("images/s", noisy(100), noisy(120, seed=1), "better"),
        ("images/s", noisy(120), noisy(100, seed=1), "worse"),
        ("s", noisy(1.0), noisy(1.0, seed=1), "same"),
        ("s", noisy(1.0, spread=0.001), noisy(1.02, spread=0.001, seed=1), "same"),  # real, and below the threshold
        ("s", noisy(1.0, spread=0.5, rounds=6), noisy(1.1, spread=0.5, rounds=6, seed=1), "same"),  # large, and noise
        ("s", [1.0], [2.0], "too few rounds"),
        ("MiB", [100.0], [120.0], "worse"),
        ("MiB", [100.0], [102.0], "same"),
    ],
)
def test_a_change_is_told_from_noise(unit: Unit, before: list[float], after: list[float], verdict: str) -> None:
    change = only(compare([result({"hybridvit": before}, unit)], [result({"hybridvit": after}, unit)]))
    assert change.verdict == verdict
    assert change.ratio is not None
    if verdict in ("worse", "better"):
        assert (change.ratio > 1) == (verdict == "better")


def test_the_interval_holds_the_ratio() -> None:
    change = only(compare([result({"hybridvit": noisy(1.2)})], [result({"hybridvit": noisy(1.0, seed=1)})]))
    assert change.low is not None
    assert change.ratio is not None
    assert change.high is not None
    assert 1 < change.low < change.ratio < change.high
    assert change.ratio == pytest.approx(1.2, rel=0.02)


def test_a_control_takes_out_the_pace_of_the_machine() -> None:
    """Everything takes twice as long; of what is ours, nothing changed."""
    pace = noisy(1.0, spread=0.3)
    before = result({"hybridvit": noisy(1.0), "timm": noisy(1.5)})
    after = result(
        {
            "hybridvit": [2 * p * t for p, t in zip(pace, noisy(1.0, seed=1), strict=True)],
            "timm": [2 * p * t for p, t in zip(pace, noisy(1.5, seed=2), strict=True)],
        }
    )
    assert [change.verdict for change in compare([before], [after])] == ["worse", "worse"]
    assert only(compare([before], [after], control="timm")).verdict == "same"


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "training"},
        {"model": "cvt_13"},
        {"batch": 8},
        {"img_size": (32, 32)},
        {"settings": replace(example().settings, precision="fp32")},
        {"settings": replace(example().settings, threads=1)},
    ],
)
def test_what_was_run_otherwise_is_not_compared(change: dict[str, object]) -> None:
    other = replace(example(), **change)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BenchmarkError, match="no figure in common"):
        compare([example()], [other])


def test_rounds_of_several_runs_and_another_number_of_rounds_go_together() -> None:
    longer = replace(example(), settings=replace(example().settings, rounds=99, round_seconds=9.0))
    (ours, _, _) = compare([example(), example()], [longer])
    assert ours.verdict == "too few rounds", "three of the second file are not five"


def test_what_is_gone_and_what_fails_now() -> None:
    before = result({"hybridvit": noisy(1.0), "timm": noisy(1.0), "torchvision": noisy(1.0)})
    ours, _, failing = before.sides
    fails = replace(failing, figures={}, failed="out of memory")
    after = replace(before, sides=(ours, fails, replace(ours, name="transformers")))
    changes = compare([before], [after])
    assert [change.verdict for change in changes] == ["same", "missing", "worse", "new"]
    lines = report(changes).splitlines()
    assert lines[0].startswith("worse: inference, vit_tiny_patch16_224, batch 4, 224x160")
    assert lines[0].endswith("torchvision, latency")
    assert lines[1].startswith("missing: ")
    assert lines[-1] == "1 same, 1 missing, 1 worse, 1 new"
