"""Rounds and clocks, with a time that the test makes up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hybridvit.benchmark.records import Settings
from hybridvit.benchmark.timing import CudaClock, WallClock, clock_for, interleaved


class FakeClock:
    """Time passes only where a run says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def run(self, durations: Callable[[int], float], log: list[str], name: str) -> Callable[[], None]:
        count = 0

        def call() -> None:
            nonlocal count
            self.now += durations(count)
            count += 1
            log.append(name)

        return call

    def seconds(self, run: Callable[[], object], calls: int) -> float:
        start = self.now
        for _ in range(calls):
            run()
        return self.now - start


def test_rounds_take_turns_and_measure_one_call() -> None:
    clock, log = FakeClock(), []
    runs = {
        "slow": clock.run(lambda count: 9.0 if count == 0 else 0.25, log, "slow"),
        "fast": clock.run(lambda count: 0.0625, log, "fast"),
        "slower than a round": clock.run(lambda count: 2.0, log, "slower than a round"),
    }
    times = interleaved(
        runs, clock, Settings(rounds=6, round_seconds=0.5, warmup=2), failed=lambda name, error: pytest.fail(name)
    )
    assert times["slow"].first == 9.0
    assert times["slow"].rounds == (0.25,) * 6
    assert times["fast"].rounds == (0.0625,) * 6
    assert times["slower than a round"].rounds == (2.0,) * 6
    per_round = {"slow": 2, "fast": 8, "slower than a round": 1}
    timed = log[3 + 2 * 3 :]
    assert len(timed) == 6 * sum(per_round.values())
    orders = set()
    for index in range(6):
        this_round = timed[index * 11 : (index + 1) * 11]
        assert {name: this_round.count(name) for name in runs} == per_round
        orders.add(tuple(dict.fromkeys(this_round)))
    assert len(orders) > 1, "a side that always follows the same other inherits its caches"


def test_a_run_that_fails_leaves_the_others_in_their_rounds() -> None:
    clock, log = FakeClock(), []

    def failing_at(call: int) -> Callable[[int], float]:
        def duration(count: int) -> float:
            if count == call:
                raise torch.OutOfMemoryError(f"at {count}")
            return 0.5

        return duration

    runs = {
        "good": clock.run(lambda count: 0.25, log, "good"),
        "at once": clock.run(failing_at(0), log, "at once"),
        "while warming up": clock.run(failing_at(2), log, "while warming up"),
        "late": clock.run(failing_at(5), log, "late"),
    }
    failed: dict[str, str] = {}
    times = interleaved(
        runs,
        clock,
        Settings(rounds=4, round_seconds=0.1, warmup=2),
        lambda name, error: failed.update({name: str(error)}),
    )
    assert {name: of_run.rounds for name, of_run in times.items()} == {"good": (0.25,) * 4}
    assert failed == {"at once": "at 0", "while warming up": "at 2", "late": "at 5"}


def test_wall_clock_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    ticks = iter([10.0, 12.5])

    def now() -> float:
        log.append("clock")
        return next(ticks)

    monkeypatch.setattr("time.perf_counter", now)
    clock = WallClock(lambda: log.append("wait"))
    assert clock.seconds(lambda: log.append("run"), calls=2) == 2.5
    assert log == ["wait", "clock", "run", "run", "wait", "clock"]


def test_cuda_clock_reads_events_after_all_work(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("event")

        def elapsed_time(self, end: Event) -> float:
            log.append("read")
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("wait"))
    assert CudaClock().seconds(lambda: log.append("run"), calls=3) == 1.5
    assert log == ["wait", "event", "run", "run", "run", "event", "wait", "read"]


def test_each_device_has_its_clock() -> None:
    assert isinstance(clock_for("cuda:1"), CudaClock)
    assert isinstance(clock_for("cpu"), WallClock)
    mps = clock_for("mps")
    assert isinstance(mps, WallClock)
    assert mps.synchronize is torch.mps.synchronize
