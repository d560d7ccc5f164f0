"""Cold start: from nothing to the first answer, each measurement in a process of its own.

Import, creation of a model from weights on this disk, first inference, and listing. Every package gets the same weights
in its own layout; ours also in timm's, in which most released weights are. A round runs every side once, in an order
drawn anew, after one that is not counted and that brings files and bytecode into memory.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..registry import model_spec
from ..weights.store import OWN_LAYOUT, save_pretrained
from .cases import Case
from .machine import machine
from .peers import LARGEST_DIFFERENCE, Output, packages_with, peer, perturb, torchvision_names
from .records import BenchmarkError, Figure, Result, Settings, Side, Unit
from .results import result
from .sides import OURS, reason

OURS_OWN_LAYOUT = "hybridvit own layout"

_PROCESS = Path(__file__).with_name("cold_process.py")
_LIST = ("-m", "hybridvit.cli", "list")
FILE = "weights file"

Run = Callable[[], dict[str, Any]]


def cold_start(case: Case, names: Collection[str] | None = None) -> Result:
    """Measures `settings.rounds` processes of each side, ours and those of the packages `names`, by default all.

    The weights are random and lie in a temporary directory. `settings.threads` is every process's OMP_NUM_THREADS.
    Raises BenchmarkError where our own side fails, and for settings that no package has for weights on disk.
    """
    _check(case)
    before = machine(case.settings.device)
    with tempfile.TemporaryDirectory() as directory:
        packages = [each for each in packages_with(case.model) if names is None or each in names]
        saved, refused = saved_models(case, Path(directory), packages)
        turns = in_turns({side: each.run(case) for side, each in saved.items()}, case.settings.rounds)
    turns.failed |= refused
    difference = compare(turns)
    return result("cold_start", case, before, _sides(turns, saved), difference)


def _check(case: Case) -> None:
    if case.img_size != model_spec(case.model).img_size:
        raise BenchmarkError(f"a cold start is that of {case.model} at its own size; leave out --img-size")
    if case.settings.precision != "fp32" or case.settings.compile:
        raise BenchmarkError("a cold start is measured in fp32, and eager; leave out --precision and --compile")


@dataclass
class Turns:
    """What the processes of each side told, one a round, and why sides failed."""

    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def in_turns(runs: Mapping[str, Run], rounds: int) -> Turns:
    """Calls each run once a round, in an order drawn anew, after a round that is not kept. A run that raises is out."""
    turns, order = Turns({side: [] for side in runs}), random.Random(0)
    for number in range(rounds + 1):
        for side in order.sample(list(turns.told), len(turns.told)):
            try:
                told = runs[side]()
            except BenchmarkError as error:
                del turns.told[side]
                turns.failed[side] = reason(error)
            else:
                turns.told[side] += [told] if number else []
    return turns


def compare(turns: Turns) -> float | None:
    """The largest difference of outputs from ours, over their spread; a side with other outputs is out."""
    outputs = {side: torch.tensor(told[0].pop("outputs")) for side, told in turns.told.items()}
    if OURS not in outputs:
        raise BenchmarkError(f"our own side failed: {turns.failed[OURS]}")
    ours, largest = outputs.pop(OURS), 0.0
    spread = (ours - ours.mean()).abs().max()
    for side, theirs in outputs.items():
        differs = ((theirs - ours).abs().max() / spread).item() if ours.shape == theirs.shape else math.inf
        if differs <= LARGEST_DIFFERENCE:
            largest = max(largest, differs)
        else:
            del turns.told[side]
            turns.failed[side] = f"refused: its outputs differ from ours by {differs:.1e} of their spread"
    return largest if outputs else None


@dataclass(frozen=True)
class Saved:
    """A model of one package on disk: its name there, the directory that has it, and whose layout that is in."""

    package: str
    name: str
    directory: Path
    layout: str

    def run(self, case: Case) -> Run:
        """A run of a process that loads it and answers once, and for ours of `hybridvit list`."""
        request = {
            "package": self.package,
            "name": self.name,
            "weights": str(self.directory),
            "shape": [case.batch or 1, case.spec().in_chans, *case.img_size],
            "device": case.settings.device,
        }
        file = max(path.stat().st_size for path in self.directory.iterdir()) / 2**20

        def run() -> dict[str, Any]:
            told = json.loads(_process(["-P", str(_PROCESS), json.dumps(request)], case.settings))
            if self.package == OURS:
                start = time.perf_counter()
                _process(_LIST, case.settings)
                told["list"] = time.perf_counter() - start
            return told | {FILE: file}

        return run


def saved_models(case: Case, directory: Path, packages: Sequence[str]) -> tuple[dict[str, Saved], dict[str, str]]:
    """The same weights in each package's layout, ours first, and why a package has none."""
    ours = case.spec().build().eval()
    perturb(ours)
    save_pretrained(ours, directory / OURS, layout=OWN_LAYOUT)
    own = Saved(OURS, case.model, directory / OURS, "own")
    saved, refused = dict[str, Saved](), dict[str, str]()
    for package in packages:
        try:
            _save(package, peer(case, package, ours), directory / package)
        except Exception as error:  # of another package, which may raise anything
            refused[package] = reason(error)
        else:
            name = torchvision_names()[case.model] if package == "torchvision" else case.model
            saved[package] = Saved(package, name, directory / package, package)
    if "timm" not in saved:
        return {OURS: own, **saved}, refused
    return {OURS: replace(own, directory=directory / "timm", layout="timm"), OURS_OWN_LAYOUT: own, **saved}, refused


def _save(package: str, model: nn.Module, directory: Path) -> None:
    """Writes a package's model as that package does."""
    if isinstance(model, Output):
        cast(Any, model.model).save_pretrained(directory)
    elif package == "timm":
        from timm.models import save_for_hf

        save_for_hf(model, str(directory), safe_serialization=True)
    else:
        directory.mkdir()
        torch.save(model.state_dict(), directory / "model.pth")


def _process(arguments: Sequence[str], settings: Settings) -> str:
    """What a new Python prints, alike for all sides: offline, and with bytecode kept as for installed packages.

    Raises BenchmarkError with the last line of its errors if it fails.
    """
    variables = {
        "OMP_NUM_THREADS": str(settings.threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=kept | variables)
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise BenchmarkError(f"its process ended with status {done.returncode} and said: {said}")
    return done.stdout


def _sides(turns: Turns, saved: Mapping[str, Saved]) -> tuple[Side, ...]:
    sides: list[Side] = []
    for name in [*turns.told, *turns.failed]:
        ours = sides[0].figures if sides else {}
        rounds = turns.told.get(name) or [{}]
        figures = {key: _figure(key, [each[key] for each in rounds], ours) for key in rounds[0]}
        settings = {"layout": saved[name].layout} if name in saved else {}
        sides.append(Side(name=name, settings=settings, figures=figures, failed=turns.failed.get(name)))
    return tuple(sides)


def _figure(name: str, values: Sequence[float], ours: Mapping[str, Figure]) -> Figure:
    unit: Unit = "MiB" if name == FILE or " memory " in name else "s"
    return Figure.of(unit, values, None if name == FILE else ours.get(name))
