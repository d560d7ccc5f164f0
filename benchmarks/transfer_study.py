"""Transfer to drawings: a hybrid, its CNN, and what needs less or no training, on few and on more images.

    python -m benchmarks.transfer_data emoji --google DIR --twitter DIR --out DATA/emoji
    python -m benchmarks.transfer_data clipart --png DIR --out DATA/clipart
    python -m benchmarks.transfer_study --data DATA --work RUNS --out benchmarks/results/transfer.jsonl

Each line of the results is one run. What is in the file already is not done again, and a run that was interrupted goes
on where it stopped. The recipe was chosen on images held out of those for training.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from hybridvit.benchmark.files import append_line
from hybridvit.benchmark.machine import commit, machine
from hybridvit.benchmark.results import command
from hybridvit.transfer.evaluation import evaluate
from hybridvit.transfer.recipe import load_recipe
from hybridvit.transfer.results import FinetuneResult, environment
from hybridvit.transfer.run import finetune

VAL_FRACTION = 0.1


@dataclass(frozen=True)
class Way:
    """A way to learn from the images; changes: to the recipe `drawings`."""

    model: str
    pretrained: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)


HYBRID, CNN = "lite0_attention_224", "tf_efficientnet_lite0"
# From scratch there is nothing to probe or to freeze, and layers have to learn alike.
FRESH = {"probe_epochs": 0, "freeze": 0, "layer_decay": 1.0}
WAYS = {
    "hybrid": Way(f"{HYBRID}.lite0_in1k"),
    "Lite0": Way(f"{CNN}.pypi_in1k"),
    "linear probe of Lite0": Way(f"{CNN}.pypi_in1k", changes={"method": "probe", "probe_epochs": 100}),
    "k-NN on Lite0": Way(f"{CNN}.pypi_in1k", changes={"method": "knn"}),
    "hybrid from scratch": Way(HYBRID, pretrained=False, changes=FRESH),
}


@dataclass(frozen=True)
class Task:
    """Images to learn from and sets to test on, in folders below that of the data.

    images_a_class: how many of them, drawn by the seed; None is all. changes: to the recipe.
    """

    train: str
    tests: Mapping[str, str]
    images_a_class: int | None
    changes: Mapping[str, Any]


EMOJI = {"Google": "emoji/google/test", "Twitter": "emoji/twitter/test"}
CLIPART = {"clip art": "clipart/test"}
# Fewer images are seen more often, in smaller batches.
FEW = {10: {"epochs": 60, "batch_size": 16, "image_size": 128}, 50: {"epochs": 30, "image_size": 128}}
TASKS = {
    "emoji": Task("emoji/google/train", EMOJI, None, {}),
    "clip art": Task("clipart/train", CLIPART, None, {"epochs": 24}),
    **{f"emoji, {count} a class": Task("emoji/google/train", EMOJI, count, FEW[count]) for count in FEW},
    **{f"clip art, {count} a class": Task("clipart/train", CLIPART, count, FEW[count]) for count in FEW},
}


@dataclass(frozen=True)
class Run:
    """A line of the results: what was trained, and its accuracies, 0..1, by test set.

    train_images: without those that the epoch was chosen on. val_accuracy: on these.
    """

    task: str
    way: str
    seed: int
    model: str
    train_images: int
    accuracy: dict[str, float]
    val_accuracy: float
    seconds: float
    recipe: dict[str, Any]
    environment: dict[str, Any]
    cpu: str
    commit: str | None
    date: str
    command: str


def table(task: Task, data: Path, seed: int, path: Path, test: str | None = None) -> Path:
    """Writes a table of the task's images to learn from, as the seed draws them, and of those of a test set."""
    rows: list[tuple[str, str, str]] = []
    for place in class_folders(data / task.train):
        files = sorted(place.iterdir())
        random.Random(f"{seed} {place.name}").shuffle(files)
        rows += [(str(file.absolute()), place.name, "train") for file in files[: task.images_a_class]]
    if test is not None:
        tested = class_folders(data / task.tests[test])
        rows += [(str(file.absolute()), place.name, "test") for place in tested for file in sorted(place.iterdir())]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return path


def class_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def measure(name: str, way_name: str, seed: int, data: Path, work: Path) -> Run:
    """Trains, or goes on with training, in a folder of `work`, and tests."""
    task, way = TASKS[name], WAYS[way_name]
    recipe = load_recipe("drawings").replace(**{**task.changes, **way.changes, "seed": seed})
    out = work / f"{name}-{way_name}-{seed}".replace(" ", "-").replace(",", "")
    given: dict[str, Any] = {
        "recipe": recipe,
        "pretrained": way.pretrained,
        "val_fraction": VAL_FRACTION,
        "resume": True,
        "workers": 0,
        "progress": False,
    }
    results: dict[str, FinetuneResult] = {}
    if recipe.method == "knn":  # which saves no model that another set of images could be asked of
        for test in task.tests:
            place = out / test.replace(" ", "-")
            images = table(task, data, seed, place.with_suffix(".csv"), test)
            results[test] = finetune(way.model, images, place, **given)
        accuracy = {test: result.accuracy for test, result in results.items()}
    else:
        trained = finetune(way.model, table(task, data, seed, out.with_suffix(".csv")), out, **given)
        results = dict.fromkeys(task.tests, trained)
        accuracy = {
            test: evaluate(out, data / folder, split="all", workers=0).figure for test, folder in task.tests.items()
        }
    result = next(iter(results.values()))
    metrics = json.loads((result.directory / "metrics.json").read_text())
    return Run(
        task=name,
        way=way_name,
        seed=seed,
        model=way.model,
        train_images=metrics["train_images"],
        accuracy=accuracy,
        val_accuracy=result.val_accuracy,
        seconds=round(result.seconds, 1),
        recipe=recipe.to_dict(),
        environment=environment(torch.device("cpu")),
        cpu=machine("cpu").cpu,
        commit=commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command(),
    )


def read(path: Path) -> list[Run]:
    """The runs in a file of results."""
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def page_table(runs: Sequence[Run]) -> str:
    """Markdown: mean and standard deviation of the accuracy over the seeds, by task, way and test set."""
    lines = [_circumstances(runs), ""]
    for task in [name for name in TASKS if any(run.task == name for run in runs)]:
        of_task = [run for run in runs if run.task == task]
        tests = list(TASKS[task].tests)
        lines += [f"| {task} | images | {' | '.join(tests)} | seeds | minutes |"]
        lines += ["| --- | ---: |" + " ---: |" * (len(tests) + 2)]
        for way in [name for name in WAYS if any(run.way == name for run in of_task)]:
            of_way = [run for run in of_task if run.way == way]
            figures = [_mean([run.accuracy[test] for run in of_way]) for test in tests]
            minutes = statistics.median(run.seconds for run in of_way) / 60
            images = of_way[0].train_images
            lines.append(f"| {way} | {images} | {' | '.join(figures)} | {len(of_way)} | {minutes:.1f} |")
        lines.append("")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def _circumstances(runs: Sequence[Run]) -> str:
    cpus = sorted({f"{run.cpu}, {run.environment['cpu_cores']} cores" for run in runs})
    commits = sorted({run.commit or "unknown" for run in runs})
    dates = sorted({run.date[:10] for run in runs})
    versions = sorted({f"torch {run.environment['torch']}" for run in runs})
    return f"{'; '.join(cpus)}. {', '.join(versions)}, hybridvit at {', '.join(commits)}, {' to '.join(dates)}."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer_study", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; by default all")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--data", type=Path, required=True, help="folder with emoji and clipart")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs, which are gone on with")
    parser.add_argument("--out", type=Path, required=True, help="file of results, to which a line a run is added")
    given = parser.parse_args()
    done = {(run.task, run.way, run.seed) for run in read(given.out)}
    for task in given.tasks or TASKS:
        for way, seed in itertools.product(given.ways, given.seeds):
            if (task, way, seed) in done:
                continue
            run = measure(task, way, seed, given.data, given.work)
            append_line(given.out, json.dumps(asdict(run)))
            print(f"{task}, {way}, seed {seed}: {run.accuracy}, {run.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
