"""What a result says about where it was measured."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
import torch

from hybridvit.benchmark.machine import allocator, commit, machine
from hybridvit.benchmark.records import Gpu


def test_machine_and_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine("cpu")
    assert here.cpu
    assert here.cores >= 1
    assert here.memory_gib > 0
    assert here.gpu is None
    monkeypatch.setenv("MALLOC_TOP_PAD_", "67108864")
    monkeypatch.setenv("UNRELATED", "1")
    assert allocator()["MALLOC_TOP_PAD_"] == "67108864"
    assert "UNRELATED" not in allocator()


def test_what_is_known_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=80 * 2**30)
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    asked: list[list[str]] = []

    def smi(command: list[str], **_: object) -> types.SimpleNamespace:
        asked.append(command)
        return types.SimpleNamespace(stdout="570.1, 1980, 1980, [N/A], 700.00\n")

    monkeypatch.setattr("hybridvit.benchmark.machine.subprocess.run", smi)
    gpu = machine("cuda:1").gpu
    assert gpu == Gpu(
        name="GPU of cuda:1",
        memory_gib=80.0,
        count=2,
        driver="570.1",
        clock_mhz=1980,
        max_clock_mhz=1980,
        power_w=None,
        power_limit_w=700.0,
    )
    assert "--id=7" in asked[0], "torch's second GPU is the driver's eighth"


def test_a_gpu_of_a_silent_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=2**30))
    monkeypatch.setenv("PATH", "")
    gpu = machine("cuda").gpu
    assert gpu is not None
    assert (gpu.name, gpu.driver, gpu.clock_mhz, gpu.power_limit_w) == ("GPU", None, None, None)


def test_commit_is_of_this_checkout_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = tmp_path / "hybridvit" / "benchmark" / "machine.py"
    monkeypatch.setattr("hybridvit.benchmark.machine.__file__", str(installed))
    installed.parent.mkdir(parents=True)
    assert commit() is None
