"""Runs that are killed over and over and must end with the weights of one that was left alone.

`python -m tests.transfer.kills FOLDER KILLS CASE...`. Each life of a run is a fork of this process, which has all that
it needs imported: so a kill nearly always comes in the middle of training or of writing, and not while Python starts.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hybridvit.transfer.checkpoint import load_checkpoint
from hybridvit.transfer.data import Data, load_data
from hybridvit.transfer.progress import Progress
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.records import Epoch
from hybridvit.transfer.resume import LAST_CHECKPOINT
from hybridvit.transfer.trainer import Trainer
from hybridvit.transfer.transforms import default_preprocess
from tests.transfer.samples import folder_of, tiny, write_idx

PLAIN = Recipe(epochs=3, batch_size=16, lr=2e-3, augment="gentle", flip=0.0, drop_path=0.2)


@dataclass(frozen=True)
class Case:
    recipe: Recipe
    files: bool = False
    workers: int = 0


CASES = {
    "average and mixing": Case(PLAIN.replace(ema_decay=0.9, mixup=0.4, erasing=0.2)),
    "parts": Case(PLAIN.replace(accumulate=3, checkpointing=True)),
    "workers": Case(PLAIN.replace(batch_size=4, augment="standard"), files=True, workers=2),
    "all at once": Case(
        PLAIN.replace(batch_size=8, augment="trivial", ema_decay=0.9, mixup=0.4, accumulate=2), files=True, workers=1
    ),
    "probe": Case(PLAIN.replace(probe_epochs=2, ema_decay=0.9, cutmix=1.0)),
}


def fit(data: Data, case: Case, out: Path) -> None:
    """One life: train to the end, a checkpoint after each step."""
    trainer = Trainer(
        tiny(),
        data,
        case.recipe,
        default_preprocess((16, 16), 1),
        out,
        Accelerator(cpu=True),
        keep=lambda best, position: None,
        identity={"model": "tiny"},
        progress=Progress(shown=False),
        workers=case.workers,
        checkpoint_seconds=0.0,
    )
    trainer.fit(resume=True)


def dies_at(name: str, call: int, before: bool) -> None:
    """This process kills itself before or after a call of `os.fsync` or `os.replace`."""
    real: Callable[..., Any] = getattr(os, name)
    left = call

    def fatal(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*arguments)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(os, name, fatal)


def life(data: Data, case: Case, out: Path, chance: random.Random | None, seconds: float) -> bool:
    """Whether it came to its end; without `chance` nobody ends it before."""
    moment = chance.choice(("any", "fsync", "replace")) if chance else "never"
    call, before = (chance.randrange(12), chance.random() < 0.5) if chance else (0, False)
    child = os.fork()
    if child == 0:
        try:
            if moment in ("fsync", "replace"):
                dies_at(moment, call, before)
            fit(data, case, out)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if chance and moment == "any":
        time.sleep(chance.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), f"a life ended with {code}"
    return code == 0


def result(out: Path) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
    """Every tensor of the last checkpoint, and the history without its times."""
    tensors, state = load_checkpoint(out / LAST_CHECKPOINT)
    lines = [replace(Epoch(**line), images_per_second=0.0, seconds=0.0, data_wait=0.0) for line in state["history"]]
    return tensors, lines


def require_equal(out: Path, expected: Path) -> None:
    (tensors, lines), (right, right_lines) = result(out), result(expected)
    assert lines == right_lines
    assert tensors.keys() == right.keys()
    for name, value in tensors.items():
        assert torch.equal(value, right[name]), f"{name} of {out}"


def killed(name: str, folder: Path, kills: int, chance: random.Random) -> None:
    """A case, killed that often in one run or several."""
    case = CASES[name]
    if case.files:
        data = load_data(folder_of(folder / "images", {"a": 20, "b": 20, "c": 20}))
    else:
        data = load_data(f"idx:{write_idx(folder / 'idx', {'train': 120, 't10k': 30})}")
    started = time.monotonic()
    assert life(data, case, folder / "straight", None, 0.0)
    seconds = time.monotonic() - started
    so_far = number = 0
    while so_far < kills:
        out = folder / f"killed-{number}"
        while not life(data, case, out, chance if so_far < kills else None, seconds):
            so_far += 1
        require_equal(out, folder / "straight")
        number += 1
    print(f"{name}: killed {so_far} times in {number} runs, each of {seconds:.1f} s if left alone", flush=True)


def main(folder: Path, kills: int, cases: Sequence[str]) -> None:
    torch.set_num_threads(1)
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    for name in cases:
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True)
        killed(name, place, kills, chance)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
