"""Peaks that are measured in no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybridvit.benchmark import roofline


@pytest.fixture
def small_peaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(roofline, "_MATRICES", {"cpu": (16, 32)})
    monkeypatch.setattr(roofline, "_COPY", {"cpu": 1024})
    monkeypatch.setattr(roofline, "_SECONDS", 0.0001)
    roofline.peaks.cache_clear()
    yield
    roofline.peaks.cache_clear()
