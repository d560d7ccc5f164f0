"""`evaluate`: how a model does on labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..weights.load import load_model
from .checkpoint import write_text
from .data import ImageSet, OnBad, Split, load_split
from .device import torch_device
from .directory import CONFUSION_FILE, METRICS_FILE, PREDICTIONS_FILE, RECIPE_FILE, check_place, listed
from .errors import DataError, RunDirectoryError
from .loader import EVAL_BATCH, EvalBatches
from .metrics import Evaluation
from .multilabel import MultiLabelEvaluation, evaluation_of
from .transforms import Transform, preprocess_of, warn_of_mismatch
from .tta import Views, averaged

if TYPE_CHECKING:
    from ..encoder import Encoder


def evaluate(
    model: str | Path | Encoder,
    data: str | Path,
    out: str | Path | None = None,
    *,
    split: Split | None = None,
    transform: Transform | None = None,
    on_bad: OnBad = "error",
    image_root: str | Path | None = None,
    tta: Views = "none",
    device: str | None = None,
    batch_size: int = EVAL_BATCH,
    workers: int | None = None,
) -> Evaluation | MultiLabelEvaluation:
    """Score a model on labelled images; classes are matched to the model's labels by name.

    Args:
        model: a model, a saved directory, or a name with pretrained weights.
        data: class folders, a table of paths and labels, or `PREFIX:...`, see `hybridvit.transfer.data.load_data`.
        out: directory for metrics.json, confusion.png and predictions.png, if they are wanted.
        split: train, val, test or all; by default test, else val, else every image.
        transform: what `hv.transforms` gave, instead of that of the model. A PreprocessWarning tells where it differs
            from what the weights expect.
        on_bad: "error" refuses undecodable files with a list, "skip" leaves them out.
        image_root: folder that the paths of a table are relative to; by default the table's.
        tta: average over views of each image: "flip", its mirror image too, or "crops", both and five crops of each.
        device: where to run; by default the best there is.
        batch_size: images that go through the model at a time.
        workers: processes that read images; by default one a core.

    Returns:
        An Evaluation, or for images with several labels a MultiLabelEvaluation.

    Raises:
        DataError: if the classes are not those of the model, or the data cannot be read.
    """
    target = torch_device(device)
    if out is not None:
        out = Path(out)
        check_place(out, data)
        if (out / RECIPE_FILE).exists():
            raise RunDirectoryError(f"{out} holds a training run, whose figures are its own; name another directory")
    if transform is not None and (not isinstance(transform, Transform) or transform.train_time):
        raise ValueError("transform must be what hv.transforms(...) gives with train=False, of a model or a Preprocess")
    loaded = load_model(model)
    preprocess = preprocess_of(loaded)
    if transform is not None:
        warn_of_mismatch(loaded, transform)
        preprocess = transform.preprocess
    classes, images, _ = load_split(data, split, on_bad=on_bad, image_root=image_root)
    labels, numbers = _matched_labels(loaded, classes, data)
    batches = EvalBatches(images, preprocess, batch_size, target, workers=workers)
    logits = _logits(loaded, batches, target, tta, images.labels.ndim == 2)
    evaluation = evaluation_of(logits, _renumbered(torch.from_numpy(images.labels), numbers, len(labels)), labels)
    if out is not None:
        _write_evaluation(evaluation, images, preprocess.channels, out)
    return evaluation


@torch.inference_mode()
def _logits(model: Encoder, batches: EvalBatches, device: torch.device, tta: Views, multi_label: bool) -> torch.Tensor:
    was_training = model.training
    model.to(device).eval()
    dtype = next(model.parameters()).dtype
    answer = averaged(model, tta, multi_label)
    logits = torch.cat([answer(pixels.to(dtype)).float().cpu() for pixels in batches])
    model.train(was_training)
    return logits


def _matched_labels(model: Encoder, classes: tuple[str, ...], data: str | Path) -> tuple[tuple[str, ...], torch.Tensor]:
    """(the model's labels, number of each data class among them)."""
    count = model.spec.num_classes
    if model.labels is None:
        if count != len(classes):
            raise DataError(
                f"the model has {count} classes and no label names, {data} has {len(classes)} classes "
                f"({listed(classes)}); fine-tune the model on this data, or evaluate on the data it was trained for"
            )
        return classes, torch.arange(count)
    unknown = [name for name in classes if name not in model.labels]
    if unknown:
        raise DataError(
            f"the model knows {count} classes ({listed(model.labels)}), {data} has {len(classes)}, of which it does "
            f"not know {listed(unknown)}; rename the folders to the model's labels, or fine-tune the model on this data"
        )
    if several := [name for name in classes if model.labels.count(name) > 1]:
        raise DataError(f"the model calls several of its classes {listed(several)}: no folder tells which; rename them")
    return model.labels, torch.tensor([model.labels.index(name) for name in classes])


def _renumbered(given: torch.Tensor, numbers: torch.Tensor, count: int) -> torch.Tensor:
    """Labels (N,), or targets (N, data classes), as the model numbers its `count` classes."""
    if given.ndim == 1:
        return numbers[given]
    return given.new_zeros(len(given), count).index_copy_(1, numbers, given)


def _write_evaluation(
    evaluation: Evaluation | MultiLabelEvaluation, images: ImageSet, channels: int, out: Path
) -> None:
    from .report import confusion_picture, evaluation_sheet

    write_text(out / METRICS_FILE, json.dumps(evaluation.to_dict(), indent=1) + "\n")
    if isinstance(evaluation, Evaluation):
        confusion_picture(evaluation, out / CONFUSION_FILE)
        evaluation_sheet(evaluation, images, channels, out / PREDICTIONS_FILE)
