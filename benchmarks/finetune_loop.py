"""Fine-tuning as a whole against a plain timm + PyTorch loop and the Trainer of transformers.

    python -m benchmarks.finetune_loop --out benchmarks/results/finetune-loop.jsonl

All start from the same weights and train on the same folder of JPEG files, with the same augmentation, optimizer,
rates, batch, worker processes and threads. Each run is a process of its own; the sides take turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

import hybridvit as hv
from benchmarks.finetune_images import make_images
from benchmarks.finetune_sides import SIDES, Job
from hybridvit.benchmark import Settings, append_result
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.machine import machine
from hybridvit.benchmark.records import Result, Unit
from hybridvit.benchmark.results import Measured, result, sides
from hybridvit.benchmark.sides import Way
from hybridvit.registry import family_of, model_spec
from hybridvit.weights.layouts import layouts_of

MODELS = ("mobilevit_s", "levit_128s", "vit_tiny_patch16_224")
CLASSES = 6
UNITS: Mapping[str, Unit] = {
    "training": "images/s",
    "whole run": "images/s",
    "processor time": "s",
    "data wait": "share",
    "accuracy": "share",
}


def weights_of(name: str, folder: Path) -> Path:
    """The same weights for all sides, drawn from a fixed seed."""
    torch.manual_seed(0)
    model = hv.create_model(name, num_classes=CLASSES)
    hv.save_pretrained(model, folder / "ours")
    theirs = layouts_of(family_of(name))["timm"](model.spec).to_theirs(model.state_dict())
    save_file({key: value.contiguous() for key, value in theirs.items()}, folder / "timm.safetensors")
    return folder


def run(side: str, job: Job) -> Mapping[str, float]:
    """One side in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.finetune_sides", side, job.text()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(name: str, job: Job, names: Sequence[str], settings: Settings) -> Result:
    """The sides in turn, as often as the settings say, each round in another order."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    case = Case(model=name, batch=job.batch, img_size=model_spec(name).img_size, settings=settings)
    before = machine("cpu")
    orders = itertools.cycle((list(names), list(reversed(names))))
    for number, order in zip(range(settings.rounds), orders, strict=False):
        for side in order:
            found = run(side, replace(job, out=job.out / f"{side.replace(' ', '-')}-{number}"))
            print(f"{name} {side}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
            for figure, value in found.items():
                values[side][figure].append(value)
    measured: dict[str, Measured] = {
        side: {figure: (UNITS[figure], each) for figure, each in figures.items() if each[0] == each[0]}
        for side, figures in values.items()
    }
    ways = [Way(name=side, package=side) for side in names]
    return result("finetune", case, before, sides(ways, measured, {}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune_loop", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"by default {', '.join(MODELS)}")
    parser.add_argument("--out", type=Path, required=True, help="file of results, to which a line a model is added")
    parser.add_argument("--images", type=int, default=264, help="of training, and a quarter of it to evaluate on")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=list(SIDES))
    given = parser.parse_args()
    settings = Settings(threads=given.threads, rounds=given.rounds, warmup=1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_images(folder / "images", given.images, given.images // 4)
        for name in given.models or MODELS:
            job = Job(
                model=name,
                folder=folder / "images",
                weights=weights_of(name, folder / name),
                out=folder / f"{name}-runs",
                images=given.images // given.batch * given.batch * given.epochs,
                epochs=given.epochs,
                batch=given.batch,
                workers=given.workers,
                threads=given.threads,
            )
            append_result(given.out, measure(name, job, given.sides, settings))


if __name__ == "__main__":
    main()
