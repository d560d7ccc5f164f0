"""How training speeds up over processes that share the work: one step each on its own images, gradients averaged.

A side is measured alone, in the first process while the others wait, and together, in turns. On GPUs each process has
its own; on a CPU the threads are divided among them. The suite starts its processes itself, unless `torchrun` has.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from .cases import Case, configured
from .machine import machine
from .peers import fresh
from .processes import answer, in_process
from .records import BenchmarkError, Result
from .results import Measured, result, sides
from .sides import WAYS, Way, placed, ways
from .timing import clock_for
from .work import train_step

NAMES = tuple(way.name for way in WAYS if not (way.compiled or way.optimized or way.precision))
_TIMEOUT = timedelta(minutes=10)


class Member(NamedTuple):
    """One of the processes. `store` is a file through which they find each other, None under torchrun."""

    rank: int
    local_rank: int
    world: int
    store: str | None = None


def scaling(case: Case, names: Collection[str] | None = None) -> Result | None:
    """Images/s of `settings.processes` together, and their efficiency: that over as many times one alone.

    Under torchrun there are as many processes as it started, and only the first has a result.

    Raises BenchmarkError if there are more processes than GPUs, or than threads of a CPU.
    """
    launched = launched_member()
    if launched is not None:
        case = replace(case, settings=replace(case.settings, processes=launched.world))
    _check(case, launched)
    before = machine(case.settings.device)
    contestants = ways(case, [name for name in NAMES if names is None or name in names], training=True)
    if launched is None:
        answers = {way.name: _spawned(case, way) for way in contestants}
    else:
        answers = {way.name: rates(case, way, launched) for way in contestants}
        if launched.rank:
            return None
    failed = {name: str(each["failed"]) for name, each in answers.items() if "failed" in each}
    measured = {name: _figures(case, each) for name, each in answers.items() if "failed" not in each}
    return result("scaling", case, before, sides(contestants, measured, failed, training=True))


def launched_member() -> Member | None:
    """This process among those that torchrun started, or None."""
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        return None
    rank, local_rank, world = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    return Member(rank, local_rank, world)


def rates(case: Case, way: Way, member: Member) -> dict[str, list[float]]:
    """Images/s in each round, of the first process alone and of all together; called in every process."""
    settings = of_member(case, member).settings
    of_this = replace(case, settings=settings)
    device = torch.device(settings.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _group(member, "nccl" if device.type == "cuda" else "gloo"), configured(settings):
        model = placed(fresh(of_this, way.package), way, settings)
        alone = train_step(copy.deepcopy(model), way, of_this)
        together = train_step(DistributedDataParallel(model), way, of_this)
        return _rounds(of_this, member, alone, together)


@contextlib.contextmanager
def _group(member: Member, backend: str) -> Iterator[None]:
    """The processes as a group; torchrun's are one for good, since they cannot meet there a second time."""
    if member.store is None:
        if not dist.is_initialized():
            dist.init_process_group(backend, timeout=_TIMEOUT)
            atexit.register(dist.destroy_process_group)
        yield
        return
    where = f"file://{member.store}"
    dist.init_process_group(backend, where, rank=member.rank, world_size=member.world, timeout=_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def of_member(case: Case, member: Member) -> Case:
    """The case as one process runs it: on its own GPU, or with its share of the threads."""
    settings = case.settings
    if settings.device.startswith("cuda"):
        settings = replace(settings, device=f"cuda:{member.local_rank}")
    return replace(case, settings=replace(settings, threads=max(1, settings.threads // member.world)))


def _rounds(
    case: Case, member: Member, alone: Callable[[], object], together: Callable[[], object]
) -> dict[str, list[float]]:
    settings, clock = case.settings, clock_for(case.settings.device)

    def slowest(seconds: float) -> float:
        value = torch.tensor([seconds], device=settings.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return value.item()

    def of_one(calls: int) -> float:
        seconds = clock.seconds(alone, calls) if member.rank == 0 else 0.0
        return slowest(seconds)  # the others wait for it here

    def of_all(calls: int) -> float:
        dist.barrier()
        return slowest(clock.seconds(together, calls))

    assert case.batch is not None
    measured = {"alone": (of_one, case.batch), "together": (of_all, case.batch * member.world)}
    calls: dict[str, int] = {}
    for name, (seconds, _) in measured.items():
        seconds(1)
        calls[name] = max(1, math.ceil(settings.round_seconds * settings.warmup / seconds(settings.warmup)))
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(settings.rounds):
        for name, (seconds, images) in measured.items():
            found[name].append(images * calls[name] / seconds(calls[name]))
    return found


def _check(case: Case, launched: Member | None) -> None:
    settings = case.settings
    if case.batch is None:
        raise BenchmarkError("the scaling suite needs a batch: the images of each process")
    cuda = settings.device.startswith("cuda")
    most, what = (torch.cuda.device_count(), "GPUs") if cuda else (settings.threads, "threads")
    if launched is None and settings.processes > most:
        raise BenchmarkError(f"{settings.processes} processes, and there are {most} {what}: use fewer --processes")


def _spawned(case: Case, way: Way) -> Mapping[str, Any]:
    """What the first of the processes answers, or why one failed; when one ends, the others' connections break."""
    count = case.settings.processes
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(count) as threads:
        members = [Member(rank, rank, count, str(Path(directory) / "store")) for rank in range(count)]
        case_data = dataclasses.asdict(case)
        requests = [{"case": case_data, "way": way.name, "member": member} for member in members]
        answers = list(threads.map(lambda request: in_process(__name__, request), requests))
    failures = [each for each in answers if "failed" in each]
    return min(failures, key=lambda each: "out of memory" not in each["failed"]) if failures else answers[0]


def _figures(case: Case, found: Mapping[str, Sequence[float]]) -> Measured:
    pairs = zip(found["together"], found["alone"], strict=True)
    return {
        "throughput": ("images/s", found["together"]),
        "alone": ("images/s", found["alone"]),
        "efficiency": ("share", [together / alone / case.settings.processes for together, alone in pairs]),
    }


if __name__ == "__main__":
    answer(lambda request: rates(request["case"], request["way"], Member(*request["member"])))
