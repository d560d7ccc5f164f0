"""One side against another over many models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridvit.benchmark import BenchmarkError, Result
from hybridvit.benchmark.pairs import pairs
from hybridvit.benchmark.records import Figure, Side, Unit
from tests.benchmark.examples import example


def result(model: str, unit: Unit = "s", **sides: tuple[float, ...]) -> Result:
    name = "latency" if unit == "s" else "throughput"
    made = (Side(name=side, settings={}, figures={name: Figure.of(unit, values)}) for side, values in sides.items())
    return replace(example(), model=model, sides=tuple(made), batch=4 if unit == "s" else None)


def test_rounds_are_paired_and_models_averaged_geometrically() -> None:
    """The median of 6/1, 4/2 and 9/9 is 2; of 8 and 2 the geometric mean is 4."""
    lines = pairs(
        [
            result("a", hybridvit=(7.0, 7.0, 7.0), fast=(1.0, 2.0, 9.0), timm=(6.0, 4.0, 9.0)),
            result("b", unit="images/s", fast=(80.0,) * 3, timm=(10.0,) * 3),
            result("c", hybridvit=(1.0,), timm=(1.0,)),
        ],
        "fast",
        "timm",
    ).splitlines()
    assert lines[0] == "| model | size | batch | fast against timm (p10-p90) |"
    assert lines[2:] == [
        "| a | 224x160 | 4 | 2.00 (1.20-5.20) |",
        "| b | 224x160 | best | 8.00 (8.00-8.00) |",
        "| geometric mean of 2 | | | 4.00 |",
        "| worst | | | 2.00 |",
    ]


def test_sides_that_no_result_has_are_an_error() -> None:
    with pytest.raises(BenchmarkError, match="times of both 'fast' and 'timm'"):
        pairs([result("a", timm=(1.0,))], "fast", "timm")
