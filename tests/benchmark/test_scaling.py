"""Processes that share the work: who measures what, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hybridvit.benchmark import BenchmarkError, Settings, benchmark, scaling
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.scaling import NAMES, Member, launched_member, of_member, rates
from hybridvit.benchmark.sides import WAYS


def case(batch: int | None = 2, model: str = "cct_2_3x2_32", **settings: Any) -> Case:
    given = {"rounds": 2, "round_seconds": 0.001, "warmup": 1} | settings
    return Case(model=model, batch=batch, img_size=(32, 32), settings=Settings(**given))


def test_one_process_alone_is_a_group_too(tmp_path: Path) -> None:
    found = rates(case(), WAYS[0], Member(0, 0, 1, str(tmp_path / "store")))
    assert found.keys() == {"alone", "together"}
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in found.values())
    assert not torch.distributed.is_initialized()


def test_efficiency_is_against_as_many_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def in_process(module: str, request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {"alone": [10.0, 20.0], "together": [30.0, 70.0]}

    monkeypatch.setattr(scaling, "in_process", in_process)
    found = scaling.scaling(case(threads=4, processes=4, model="tf_efficientnet_lite0"), ["timm"])
    assert found is not None
    ours, timm = found.sides
    assert (ours.name, timm.name) == ("hybridvit", "timm")
    assert ours.figures["efficiency"].values == (0.75, 0.875)
    assert ours.figures["throughput"].values == (30.0, 70.0)
    assert found.settings.processes == 4
    assert sorted(request["member"].rank for request in asked) == sorted([0, 1, 2, 3] * 2)
    assert len({request["member"].store for request in asked}) == 2, "each side has processes of its own"


def test_a_process_that_fails_fails_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_process(module: str, request: dict[str, Any]) -> dict[str, Any]:
        lost = {"failed": "refused: RuntimeError: Connection closed by peer"}
        return {"failed": "out of memory"} if request["member"].rank == 2 else lost

    monkeypatch.setattr(scaling, "in_process", in_process)
    found = scaling.scaling(case(threads=4, processes=4), ["hybridvit"])
    assert found is not None
    assert found.sides[0].failed == "out of memory", "the cause, and not what followed from it"


def test_each_has_its_gpu_or_its_share_of_the_threads() -> None:
    member = Member(rank=5, local_rank=1, world=8)
    assert of_member(case(device="cuda"), member).settings.device == "cuda:1"
    assert of_member(case(threads=16), member).settings.threads == 2
    assert of_member(case(threads=4), member).settings.threads == 1


def test_under_torchrun_only_the_first_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched_member() is None
    members: list[Member] = []

    def measured(case: Case, way: Any, member: Member) -> dict[str, list[float]]:
        members.append(member)
        return {"alone": [1.0], "together": [3.0]}

    monkeypatch.setattr(scaling, "rates", measured)
    told: list[int] = []
    for rank in range(3):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 3}.items():
            monkeypatch.setenv(name, str(value))
        settings = Settings(threads=1)
        told += [
            found.settings.processes
            for found in benchmark(["cct_2_3x2_32"], [2], settings, suite="scaling", sides=["hybridvit"])
        ]
    assert told == [3]
    assert [member.rank for member in members] == [0, 1, 2]
    assert members[0].store is None


def test_what_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchmarkError, match="3 processes, and there are 2 threads"):
        scaling.scaling(case(threads=2, processes=3))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BenchmarkError, match="2 processes, and there are 1 GPUs"):
        scaling.scaling(case(device="cuda", processes=2))
    with pytest.raises(BenchmarkError, match="needs a batch"):
        scaling.scaling(case(batch=None))


def test_compiled_and_optimised_sides_do_not_scale() -> None:
    assert NAMES == (
        "hybridvit",
        "timm",
        "timm channels_last",
        "transformers",
        "torchvision",
        "torchvision channels_last",
    )


def test_under_torchrun_the_group_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes cannot meet a second time: they would wait for each other for ever."""
    log: list[str] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: log.append(backend))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: bool(log))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: log.append("destroyed"))
    monkeypatch.setattr("atexit.register", lambda end: log.append("at exit"))
    for _ in range(2):
        with scaling._group(Member(0, 0, 2), "gloo"):
            pass
    assert log == ["gloo", "at exit"]


@pytest.mark.slow
def test_two_processes_share_the_work() -> None:
    found = scaling.scaling(case(threads=2, processes=2, rounds=5, round_seconds=0.05), ["hybridvit"])
    assert found is not None
    assert found.sides[0].failed is None
    assert len(found.sides[0].figures["efficiency"].values) == 5
    assert 0 < found.sides[0].figures["efficiency"].spread.median < 2
