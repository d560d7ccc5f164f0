"""Latency in turns, with a time that the test makes up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hybridvit.benchmark.machine import machine
from hybridvit.benchmark.timing import Run
from hybridvit.recommendation import latency
from hybridvit.recommendation.latency import Entrant, latencies
from tests.recommendation.examples import ToldClock
from tests.transfer.samples import tiny

CPU = torch.device("cpu")


def entrant(params: int, log: list[str] | None = None) -> Entrant:
    """A tiny model that says it has that many parameters."""

    def make() -> torch.nn.Module:
        if log is not None:
            log.append(str(params))
        return tiny()

    return Entrant(make, params, (16, 16))  # pyright: ignore[reportArgumentType]


def test_the_median_of_the_rounds_counts() -> None:
    found = latencies({"a": entrant(4_000), "b": entrant(40_000)}, CPU, ToldClock())
    assert found.seconds == pytest.approx({"a": 0.004, "b": 0.04})
    assert found.failed == {}

    class Disturbed(ToldClock):
        def seconds(self, run: Run, calls: int) -> float:
            self.calls += 1
            return super().seconds(run, calls) * (50 if self.calls % 7 == 0 else 1)

    assert latencies({"a": entrant(4_000)}, CPU, Disturbed()).seconds == pytest.approx({"a": 0.004})


def test_what_is_far_too_slow_is_not_measured_closely() -> None:
    """Three calls tell, of a model that takes five seconds an image."""
    slow = ToldClock()
    assert latencies({"slow": entrant(5_000_000)}, CPU, slow, limit=0.01).seconds == pytest.approx({"slow": 5.0})
    assert slow.calls == 3
    alone, both = ToldClock(), ToldClock()
    latencies({"fast": entrant(10_000)}, CPU, alone, limit=0.01)
    latencies({"fast": entrant(10_000), "slow": entrant(5_000_000)}, CPU, both, limit=0.01)
    assert both.calls == alone.calls + 3


def test_a_slow_model_takes_few_rounds() -> None:
    clock = ToldClock()
    latencies({"slow": entrant(1_000_000)}, CPU, clock)
    assert clock.calls <= 3 + 2 + 3


def test_models_that_would_not_fit_into_memory_together_take_turns_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_MOST_PARAMS", 100)
    sizes = {"a": 60, "b": 30, "c": 500, "d": 30, "e": 35}
    groups = list(latency._groups({name: entrant(size) for name, size in sizes.items()}))
    assert groups == [["b", "d", "e"], ["a"], ["c"]]
    log: list[str] = []
    found = latencies({name: entrant(size, log) for name, size in sizes.items()}, CPU, ToldClock())
    assert found.seconds.keys() == sizes.keys()
    assert sorted(log) == sorted(map(str, sizes.values())), "each is made once"


def test_a_model_that_cannot_run_says_why_and_the_others_go_on() -> None:
    def refuse() -> None:
        raise RuntimeError("no kernel for this\nand more")

    found = latencies({"bad": Entrant(refuse, 1, (16, 16)), "good": entrant(4_000)}, CPU, ToldClock())  # pyright: ignore[reportArgumentType]
    assert found.failed == {"bad": "no kernel for this"}
    assert found.seconds.keys() == {"good"}


@pytest.mark.parametrize(("load", "device", "busy"), [(6.0, "cpu", True), (1.0, "cpu", False), (6.0, "cuda", False)])
def test_a_busy_cpu_is_told(monkeypatch: pytest.MonkeyPatch, load: float, device: str, busy: bool) -> None:
    here = replace(machine("cpu"), load_average=load, cores=2)
    monkeypatch.setattr(latency, "machine", lambda device: here)
    note = latency.busy_note(torch.device(device))
    assert (note is not None) == busy
    assert note is None or "load 6.0 on 2 cores" in note
