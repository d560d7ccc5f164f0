"""A result with its circumstances around it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..inspect.costs import cost
from . import machine
from .cases import Case
from .records import Figure, Machine, Peaks, Result, Side, Suite, Unit
from .sides import Way

# Figures of which no side repeats a round, or that others do not have in kind.
UNPAIRED = ("first call", "export")

# The values of a side's figures by name, each with its unit; or why there are none.
Measured = Mapping[str, tuple[Unit, Sequence[float]]]


def sides(
    ways: Sequence[Way], measured: Mapping[str, Measured], failed: Mapping[str, str], training: bool = False
) -> tuple[Side, ...]:
    """The sides of a result, with the ratios to ours, which is the first."""
    made: list[Side] = []
    for way in ways:
        ours = made[0].figures if made else {}
        figures = {
            name: Figure.of(unit, values, None if name in UNPAIRED else ours.get(name))
            for name, (unit, values) in measured.get(way.name, {}).items()
        }
        made.append(Side(name=way.name, settings=way.settings(training), figures=figures, failed=failed.get(way.name)))
    return tuple(made)


def result(
    suite: Suite,
    case: Case,
    before: Machine,
    found: tuple[Side, ...],
    difference: float | None = None,
    peaks: Peaks | None = None,
) -> Result:
    """The result of a case; `before` is the machine as it was before the measurement."""
    params, flops = cost(case.spec())
    return Result(
        suite=suite,
        model=case.model,
        batch=case.batch,
        img_size=case.img_size,
        params=params,
        flops=flops,
        settings=case.settings,
        sides=found,
        difference=difference,
        peaks=peaks,
        machine=before,
        versions=machine.versions(),
        allocator=machine.allocator(),
        commit=machine.commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command(),
    )


def command() -> str:
    """The command line that measures."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
