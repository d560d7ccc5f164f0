"""Peaks in processes of their own, and what stops such a process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridvit.benchmark import memory as memory_module
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.memory import memory, peak_memory, tokens
from hybridvit.benchmark.records import Settings
from hybridvit.benchmark.sides import WAYS

ALONE, WITH_PEER = "cct_2_3x2_32", "tf_efficientnet_lite0"
OURS = WAYS[0]


def case(model: str = ALONE, batch: int = 1, rounds: int = 1) -> Case:
    return Case(model=model, batch=batch, img_size=(32, 32), settings=Settings(rounds=rounds))


def test_memory_grows_with_the_batch_in_a_process_of_its_own() -> None:
    """A batch of 256 holds at least the 64 channels of the first convolution at 32 x 32 in float32: 64 MiB."""
    answered = peak_memory(case(batch=256), OURS, calls=2)
    assert 64 < answered["peak"] < 1024
    assert len(answered["seconds"]) == 2
    assert min(answered["seconds"]) > 0


def test_what_fails_in_the_process_is_told() -> None:
    """Batch norm does not train on one value a channel."""
    answered = peak_memory(case(WITH_PEER), WAYS[0], work="training")
    assert answered["failed"].startswith("refused: ValueError: Expected more than 1 value per channel")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "its process ended with status 3 and said: nothing"),
        ("echo first >&2; echo last >&2; exit 1", "status 1 and said: last"),
        ("kill -9 $$", "out of memory: the system ended the process"),
    ],
)
def test_a_process_that_ends_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    assert message in peak_memory(case(), OURS)["failed"]


def test_the_suite_has_time_and_memory_of_both_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def weigh(case: Case, way: Any, work: str, calls: int) -> dict[str, Any]:
        heavy = {"inference": 10.0, "training": 30.0}[work] * (1 if way is OURS else 2)
        if way.name == "timm channels_last" and work == "training":
            return {"failed": "out of memory"}
        return {"peak": heavy, "seconds": [3.0, 1.0, 2.0][:calls]}

    monkeypatch.setattr(memory_module, "peak_memory", weigh)
    result = memory(case(WITH_PEER, rounds=2), ["timm", "timm channels_last"])
    assert result.suite == "memory"
    ours, timm, failing = result.sides
    assert ours.figures["tokens"].values == (256,)
    assert ours.figures["inference peak"].values == (10.0, 10.0)
    assert ours.figures["training peak"].values == (30.0, 30.0)
    assert ours.figures["inference time"].values == (1.0, 1.0)
    ratio = timm.figures["training peak"].ratio
    assert ratio is not None
    assert ratio.median == 2.0
    assert failing.failed == "training: out of memory"
    assert failing.figures.keys() == {"inference peak", "inference time"}


def test_where_no_peak_can_be_read_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "peak_memory", lambda *args, **kwargs: {"peak": None, "seconds": [1.0]})
    (ours,) = memory(case(), []).sides
    assert ours.figures.keys() == {"tokens", "inference time", "training time"}


def test_cuda_counts_what_torch_allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    assert memory_module.peak_of(lambda: log.append("work"), torch.device("cuda")) == 3.0
    assert log == ["reset", "work"]


def test_a_cpu_has_room_while_twice_as_much_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux would give more than there is, and kill who uses it."""
    status, free = tmp_path / "status", tmp_path / "meminfo"
    monkeypatch.setattr(memory_module, "_STATUS", status)
    monkeypatch.setattr(memory_module, "_MEMORY", free)
    monkeypatch.setattr(memory_module, "_forget_peak", lambda: None)
    status.write_text("VmHWM:\t 102400 kB\n")
    free.write_text("MemTotal: 999999999 kB\nMemAvailable: 512000 kB\n")
    room = memory_module.Room("cpu")
    status.write_text("VmHWM:\t 307200 kB\n")  # 200 MiB more, of which twice as much fits into 500
    assert room()
    free.write_text("MemAvailable: 400000 kB\n")
    assert not room()
    assert memory_module.Room("cuda")(), "a GPU refuses by itself"


def test_tokens_are_those_behind_the_stem() -> None:
    at = Case(model="deit_tiny_distilled_patch16_224", batch=1, img_size=(224, 160), settings=Settings())
    assert tokens(at) == 14 * 10 + 2
