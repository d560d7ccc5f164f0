"""The directory of a run: what its files are called, and which directories are refused."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from ..weights.sources import PENDING
from ..weights.store import CARD, CONFIG, WEIGHTS
from .data import folder_of
from .errors import RunDirectoryError

RECIPE_FILE = "recipe.toml"
METRICS_FILE = "metrics.json"
SPLIT_FILE = "split.csv"
DATA_FILE = "data.json"
CONFUSION_FILE = "confusion.png"
PREDICTIONS_FILE = "predictions.png"
REPORT_FILE = "report.html"
FILES = {
    CONFIG: "the model's spec, preprocessing and labels",
    WEIGHTS: "its weights, of the best epoch",
    CARD: "its card",
    RECIPE_FILE: "the recipe of the run",
    SPLIT_FILE: "which image was in which part",
    DATA_FILE: "what was found in the data",
    METRICS_FILE: "all figures of this page",
    "log.csv": "a line for each epoch",
    "log.jsonl": "the same, as JSON",
    "tensorboard": "the same, for TensorBoard",
    CONFUSION_FILE: "the confusion matrix as a picture",
    PREDICTIONS_FILE: "a sheet of predictions",
    "checkpoints": "what a run is resumed from",
    "finish": "the same of the last phase",
}
_RUN_FILES = (*FILES, REPORT_FILE, PENDING)


def check_directory(out: Path, data: str | Path, resume: bool, overwrite: bool) -> None:
    """Refuse a directory in use, and what cannot be one."""
    if resume and overwrite:
        raise RunDirectoryError("resume and overwrite exclude each other")
    check_place(out, data)
    content = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    if content and not resume:
        if not overwrite:
            raise RunDirectoryError(
                f"{out} is not empty (it has {listed(content)}); take another directory, or continue that run with "
                "resume=True (--resume), or replace it with overwrite=True (--overwrite)"
            )
        if RECIPE_FILE not in content:
            raise RunDirectoryError(f"{out} holds no training run, so it is not overwritten; take another directory")


def check_place(out: Path, data: str | Path) -> None:
    """Refuse a directory that cannot be made, or that would become a class of the data."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise RunDirectoryError(f"{there} is a file; name a directory")
    if not os.access(there, os.W_OK):
        raise RunDirectoryError(f"{there} cannot be written; name another directory")
    folder = folder_of(data)
    if folder is not None and out.resolve().is_relative_to(folder.resolve()):
        raise RunDirectoryError(f"{out} is in the data folder {data}, of which it would be a part; name another place")


def default_directory(data: str | Path, model: str, resume: bool) -> Path:
    """runs/DATA-MODEL, or with -2, -3, ... the first that is not there yet; to resume, the last one that is."""
    names = (Path(str(data).rpartition(":")[2]).absolute().name, model.rpartition(":")[2].rpartition("/")[2])
    base = "-".join(re.sub(r"[^\w.-]+", "_", name).strip("._-") or "run" for name in names)
    last, number = None, 1
    while True:
        path = Path("runs", base if number == 1 else f"{base}-{number}")
        if not path.exists():
            return last if resume and last else path
        last, number = path, number + 1


def remove_run(out: Path) -> None:
    """Removes a training run and its model; other files stay."""
    for name in _RUN_FILES:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def listed(names: Any, shown: int = 10) -> str:
    names = list(names)
    text = ", ".join(map(str, names[:shown]))
    return text if len(names) <= shown else f"{text}, ... {len(names) - shown} more"
