"""`recommend`: from a folder of images to the models that suit it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..benchmark.machine import machine
from ..benchmark.timing import Clock, clock_for
from ..transfer.checkpoint import write_text
from ..transfer.device import torch_device
from ..transfer.directory import RECIPE_FILE, check_place, listed
from ..transfer.errors import RunDirectoryError
from ..transfer.metrics import Evaluation
from ..transfer.multilabel import MultiLabelEvaluation
from ..transfer.progress import Progress
from ..weights.transport import is_offline, offline_if_unreachable
from .candidates import candidates as candidates_of
from .candidates import is_elsewhere
from .failures import RecommendationError
from .features import FOLDER
from .judging import Task, rows_of
from .picture import picture
from .proxy import majority
from .ranking import Row, excluded, ranked
from .result import Recommendation, finetune_command
from .sample import sample_of

if TYPE_CHECKING:
    from ..transfer.data import OnBad

JSON_FILE = "recommendation.json"
PICTURE_FILE = "recommendation.png"
CANDIDATES, IMAGES = 10, 1_000


def recommend(
    data: str | Path,
    out: str | Path | None = None,
    *,
    models: Sequence[str] = (),
    latency_ms: float | None = None,
    max_params: float | None = None,
    candidates: int = CANDIDATES,
    images: int = IMAGES,
    img_size: int | None = None,
    device: str | None = None,
    on_bad: OnBad = "error",
    image_root: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    clock: Clock | None = None,
) -> Recommendation:
    """Rank models for labelled images by what their features are worth for them, and by their latency here.

    Latency comes first and needs no weights: those of models that are too slow are not fetched. Each other model embeds
    a sample of the images once. On its features, a linear probe and nearest neighbours answer images that are held out.

    Args:
        data: class folders, a table, or `PREFIX:...`, see `hybridvit.transfer.data.load_data`.
        out: directory for recommendation.json, recommendation.png and the features, by which a second run is quick.
        models: names that `create_model` takes, and shell patterns over `arch.tag`; by default a short list of the zoo:
            checkpoints on the Pareto front of reported accuracy against operations.
        latency_ms: milliseconds that one image may take.
        max_params: millions of parameters that a model may have; 30 for the short list if it is not given.
        candidates: models of the short list, or of a pattern, at most.
        images: about how many images to compare on; a few of each class at least.
        img_size: side in pixels of the images; by default each model's own.
        device: where to run; by default the best there is.
        on_bad: "error" refuses undecodable files with a list, "skip" leaves them out.
        image_root: folder that the paths of a table are relative to; by default the table's.
        workers: processes that read images; by default one a core.
        progress: tell on standard error what is being done.
        clock: measures latency; by default that of the device.

    Raises:
        DataError: if the data cannot be read or has too few images.
        ValueError: for unknown names, a limit that is none, or a directory that cannot be used.
        RecommendationError: if no candidate could be judged, with the reason of each.
    """
    target = torch_device(device)
    _require_positive(latency_ms=latency_ms, max_params=max_params, candidates=candidates, img_size=img_size)
    if out is not None:
        out = Path(out)
        check_place(out, data)
        if (out / RECIPE_FILE).exists():
            raise RunDirectoryError(f"{out} holds a training run; name another directory")
    chosen = candidates_of(models, candidates, max_params)
    shown = Progress(progress)
    shown.note(f"candidates: {chosen.how}")
    with shown.checking() as checked:
        sample = sample_of(data, images, image_root, on_bad=on_bad, progress=checked)
    for note in sample.notes:
        shown.note(f"note: {note}")
    shown.note(
        f"data: {len(sample.classes)} classes ({listed(sample.classes)}); {len(sample.images):,} of {sample.total:,} "
        f"images; held out: {sample.how}"
    )
    with _hub_or_cache(chosen.names, shown) as unreachable:
        task = Task(
            sample=sample,
            device=target,
            clock=clock or clock_for(str(target)),
            limit=None if latency_ms is None else latency_ms / 1000,
            max_params=max_params,
            side=img_size,
            features=None if out is None else out / FOLDER,
            workers=workers,
            progress=shown,
            offline=is_offline(),
            unreachable=unreachable,
        )
        rows = rows_of(chosen.names, task)
    if not any(row.proxy for row in rows):
        raise RecommendationError(_none_judged(rows))
    ranking = ranked(rows)
    options = {
        "image_root": image_root,
        "on_bad": None if on_bad == "error" else on_bad,
        "device": None if device is None else target.type,
        "set": None if img_size is None else f"image_size={img_size}",
    }
    found = Recommendation(
        data=str(data),
        classes=sample.classes,
        figure=MultiLabelEvaluation.figure_name if sample.images.multi_label else Evaluation.figure_name,
        majority=majority(sample),
        images=len(sample.images),
        total=sample.total,
        held_out=sample.how,
        limit=task.limit,
        where=_where(target),
        how=chosen.how,
        ranking=ranking,
        notes=sample.notes,
        command=finetune_command(ranking.fastest.name, str(data), **options),
        directory=out,
    )
    if out is not None:
        write_text(out / JSON_FILE, json.dumps(found.to_dict(), indent=1) + "\n")
        picture(found, out / PICTURE_FILE)
    return found


def _require_positive(**limits: float | None) -> None:
    for name, value in limits.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be above 0, got {value}")


@contextmanager
def _hub_or_cache(names: Sequence[str], shown: Progress) -> Iterator[bool]:
    """Whether weights are to come from elsewhere and the Hub does not answer: then all is taken from the cache."""
    if not any(is_elsewhere(name) for name in names):
        yield False
        return
    with offline_if_unreachable() as unreachable:
        if unreachable:
            shown.note("note: the Hub cannot be reached; models are taken from its cache, as far as they are there")
        yield unreachable


def _where(device: torch.device) -> str:
    here, threads = machine(str(device)), torch.get_num_threads()
    return here.gpu.name if here.gpu else f"{here.cpu}, {threads} thread{'s' * (threads != 1)}"


def _none_judged(rows: Sequence[Row]) -> str:
    advice = {
        "too slow": "raise latency_ms (--latency-ms), or name faster models",
        "too large": "raise max_params (--max-params), or name smaller models",
        "failed": (
            "connect once, so that the weights are downloaded, or bring a repository by `hybridvit pull` and name it "
            "with models=['local-dir:PATH'] (--models local-dir:PATH)"
        ),
    }
    seen = {row.status for row in rows}
    fixes = "; ".join(fix for status, fix in advice.items() if status in seen)
    return f"none of {len(rows)} candidates could be judged:\n{excluded(rows)}\n{fixes}"
