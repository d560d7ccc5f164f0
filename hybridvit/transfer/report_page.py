"""`report.html`: a run on one page that needs nothing beside it, neither a script nor a network."""

from __future__ import annotations

import json
import re
import shlex
import statistics
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..inspect.costs import cost
from . import charts
from .checkpoint import write_text
from .directory import DATA_FILE, METRICS_FILE, RECIPE_FILE, listed
from .directory import FILES as RUN_FILES
from .metrics import Evaluation
from .mistakes import mistakes
from .transforms import transforms

if TYPE_CHECKING:
    from ..encoder import Encoder
    from .data import Data
    from .multilabel import MultiLabelEvaluation

_CONFUSED = 5
_MOST_ROWS = 50
_MANY_CLASSES = 20  # from which on it is of interest whether the right one is among five
_MOST_CLASSES = 120  # beyond which nobody finds anything in a confusion matrix


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a report tells of: the saved model, its data and how it did there.

    Attributes:
        title: what was trained on what.
        command: what makes the same run again.
        evaluation: on the test images if there are any, else on the validation images.
        metrics: what metrics.json holds.
        pictures: PNGs of the data, by what they show.
    """

    title: str
    command: str
    model: Encoder
    data: Data
    evaluation: Evaluation | MultiLabelEvaluation
    metrics: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def write_report(run: Run, path: Path) -> None:
    """Writes the page beside the other files of the run, which it reads and names."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("hybridvit.transfer", "pages"), autoescape=True, undefined=StrictUndefined)
    pages.filters |= {"figure": _figure, "words": _words}
    pages.globals["most_rows"] = _MOST_ROWS
    write_text(path, pages.get_template("report.html.j2").render(_facts(run, path.parent)))


def command_line(model: str | Encoder, data: str | Path, out: Path, **options: str | float | bool | None) -> str:
    """The command of a run, with names in the place of paths of this machine; options by their names in Python."""
    name = model if isinstance(model, str) else (model.origin or {}).get("architecture") or "MODEL"
    words = [
        "hybridvit",
        "finetune",
        "--model",
        _name_of(name),
        "--data",
        _name_of(str(data)),
        "--out",
        out.absolute().name,
    ]
    words += ["--recipe", RECIPE_FILE]
    for option, value in options.items():
        flag = option.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def run_title(model: str | Encoder, data: str | Path) -> str:
    """What was trained on what, without paths of this machine."""
    name = model if isinstance(model, str) else (model.origin or {}).get("architecture") or "A model"
    return f"{_name_of(name)} on {_name_of(str(data)).rpartition(':')[2]}"


def _name_of(place: str) -> str:
    """`PREFIX:NAME` or `NAME` of what a path leads to."""
    prefix, colon, rest = place.partition(":")
    if prefix == "hf-hub":
        return place
    if not re.fullmatch(r"[\w-]{2,}", prefix):  # no prefix, or the letter of a drive
        prefix, colon, rest = "", "", place
    return f"{prefix}{colon}{Path(rest).absolute().name}" if rest else place


def _facts(run: Run, directory: Path) -> dict[str, Any]:
    """What the template names."""
    metrics, evaluation = run.metrics, run.evaluation
    one_label = _one_label(evaluation, metrics) if isinstance(evaluation, Evaluation) else {}
    return {
        "title": run.title,
        "subtitle": f"{datetime.now(UTC):%d %B %Y}; {_sizes(run.data)}",
        "headline": _headline(run),
        "notes": run.data.notes,
        "curves": charts.curves(metrics["history"], "Accuracy" if one_label else "Mean average precision"),
        "baselines": metrics.get("baselines"),
        "classes": _classes(evaluation) if isinstance(evaluation, Evaluation) else _classes_by_precision(evaluation),
        "split": _split(run),
        "confusion": one_label.get("confusion"),
        "confused": one_label.get("confused"),
        "mistakes": mistakes(run.model, evaluation, run.data.test or run.data.val),
        "reliability": one_label.get("reliability"),
        "calibration": one_label.get("calibration"),
        "data": _data_report(directory / DATA_FILE),
        "pictures": [{"title": _words(name), "uri": _png(content)} for name, content in run.pictures.items()],
        "cost": _cost(run),
        "command": run.command,
        "recipe": (directory / RECIPE_FILE).read_text(encoding="utf-8"),
        "environment": metrics["environment"],
        "directory": directory.absolute().name,
        # The figures are written last, for they say that the run is finished.
        "files": {
            name: what for name, what in RUN_FILES.items() if (directory / name).exists() or name == METRICS_FILE
        },
    }


def _data_report(path: Path) -> dict[str, Any] | None:
    """What was found in the data, if that was written; its notes stand at the top of the page."""
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in found.items() if name != "notes"}


def _one_label(evaluation: Evaluation, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What there is only where an image has one label."""
    right = (evaluation.predictions == evaluation.labels).numpy()
    return {
        "confusion": charts.confusion(evaluation) if len(evaluation.classes) <= _MOST_CLASSES else None,
        "confused": _confused(evaluation),
        "reliability": charts.reliability(evaluation.confidence.numpy(), right),
        "calibration": metrics.get("calibration") or {"expected calibration error": evaluation.ece},
    }


def _split(run: Run) -> str:
    return "test" if run.data.test else "validation"


def _sizes(data: Data) -> str:
    parts = {"training": data.train, "validation": data.val, "test": data.test}
    counts = ", ".join(f"{len(part):,} {name}" for name, part in parts.items() if part is not None)
    return f"{len(data.classes):,} classes ({listed(data.classes, 5)}), {counts} images"


def _headline(run: Run) -> dict[str, str]:
    evaluation, metrics = run.evaluation, run.metrics
    what = f"on {evaluation.count:,} {_split(run)} images"
    if isinstance(evaluation, Evaluation):
        found = {f"accuracy {what}": f"{evaluation.top1:.1%}"}
        if len(evaluation.classes) > _MANY_CLASSES:
            found["right among the five most likely"] = f"{evaluation.top5:.1%}"
        found["expected calibration error"] = f"{evaluation.ece:.3f}"
    else:
        found = {f"mean average precision {what}": f"{evaluation.mean_average_precision:.3f}"}
        found["macro F1"] = f"{evaluation.macro_f1:.3f}"
    best = f"validation, best of {metrics['epochs']} epochs ({metrics['best_epoch']})"
    return found | {best: f"{metrics['val_accuracy']:.1%}", "of training": _duration(metrics["seconds"])}


def _classes(evaluation: Evaluation) -> dict[str, Any]:
    """A row for each class, the one with the lowest recall first."""
    counts = evaluation.confusion.double()
    hits, images, said = counts.diagonal().tolist(), counts.sum(dim=1).tolist(), counts.sum(dim=0).tolist()
    rows = [
        (_share(hit, count), (name, _percent(_share(hit, count)), _percent(_share(hit, named)), f"{count:.0f}"))
        for name, hit, count, named in zip(evaluation.classes, hits, images, said, strict=True)
    ]
    rows.sort(key=lambda row: (row[0] is None, row[0]))
    return {"columns": ("class", "recall", "precision", "images"), "rows": [row for _, row in rows]}


def _classes_by_precision(evaluation: MultiLabelEvaluation) -> dict[str, Any]:
    """A row for each class, the one with the lowest average precision first; those without images last."""
    counts = evaluation.labels.sum(dim=0).tolist()
    rows = sorted(
        zip(evaluation.classes, evaluation.per_class, counts, strict=True), key=lambda row: (not row[2], row[1])
    )
    shown = [(name, f"{precision:.3f}" if count else "-", f"{count:.0f}") for name, precision, count in rows]
    return {"columns": ("class", "average precision", "images"), "rows": shown}


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _confused(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The pairs of classes that are taken for each other most often."""
    counts = evaluation.confusion.clone().fill_diagonal_(0)
    values, places = counts.flatten().topk(min(_CONFUSED, counts.numel()))
    pairs = [(divmod(place, len(counts)), value) for place, value in zip(places.tolist(), values.tolist(), strict=True)]
    names = evaluation.classes
    return [{"truth": names[true], "said": names[said], "count": count} for (true, said), count in pairs if count]


def _cost(run: Run) -> dict[str, str]:
    size = transforms(run.model).preprocess.input_size
    whole = cost(run.model.spec, size)
    found = {
        "parameters": f"{whole.params / 1e6:,.2f} million",
        "operations": f"{whole.flops / 1e9:,.2f} GFLOPs an image of {size[0]} x {size[1]}, a multiply-add is two",
        "training": _duration(run.metrics["seconds"]),
    }
    if rates := [line["images_per_second"] for line in run.metrics["history"]]:
        found["speed"] = f"{statistics.median(rates):,.0f} images a second while training"
    if memory := _peak_memory(next(run.model.parameters()).device):
        found["peak memory"] = f"{memory / 2**30:,.2f} GiB"
    return found


def _peak_memory(device: torch.device) -> int | None:
    """Bytes at most that torch had of a GPU, or that this process had; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _png(content: bytes) -> str:
    return f"data:image/png;base64,{b64encode(content).decode()}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _words(name: str) -> str:
    """A name of JSON data as it is said."""
    said = {"ece": "ECE", "knn": "k-NN"}
    return " ".join(said.get(word, word) for word in name.split("_"))
