"""Peaks, from a clock that the test makes up."""

from __future__ import annotations

import pytest
import torch

from hybridvit.benchmark import roofline
from hybridvit.benchmark.records import Peaks, Settings
from hybridvit.benchmark.roofline import peaks


class Slowing:
    """A call takes 1 ms, and a first call of anything a second."""

    def __init__(self) -> None:
        self.calls = 0

    def seconds(self, run: object, calls: int) -> float:
        assert callable(run)
        run()
        self.calls += calls
        return 0.001 * calls


def test_the_best_product_and_the_copy_count(small_peaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "clock_for", lambda device: Slowing())
    monkeypatch.setattr(roofline, "_MATRICES", {"cpu": (100, 400)})
    monkeypatch.setattr(roofline, "_COPY", {"cpu": 10**6})
    assert peaks(Settings()) == Peaks(matrix_gflops=128.0, copy_gbs=2.0), "2 * 400^3 in 1 ms; 2 MB in 1 ms"


def test_products_are_in_the_precision_of_the_settings(small_peaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    types: list[torch.dtype] = []
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: types.append(a.dtype) or product(a, b, out=out))
    assert peaks(Settings(precision="amp-bf16")).matrix_gflops > 0
    assert set(types) == {torch.bfloat16}


def test_peaks_are_measured_once_for_the_same_settings(small_peaks: None) -> None:
    assert peaks(Settings(threads=1)) is peaks(Settings(threads=1))
