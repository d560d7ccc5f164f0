"""`finetune`: from names and folders to a trained, saved and scored model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..weights.load import full_name
from .balance import imbalance_note
from .baselines import measure_baselines
from .checkpoint import CheckpointError, advice, write_text
from .data import Data, OnBad, load_data, split_table
from .data.statistics import measured_preprocess
from .directory import (
    DATA_FILE,
    METRICS_FILE,
    RECIPE_FILE,
    SPLIT_FILE,
    check_directory,
    listed,
    remove_run,
)
from .distillation import teacher_of
from .errors import DataError, RunDirectoryError
from .finish import finish_larger
from .loader import seed_of
from .methods import METHODS, Method
from .progress import Progress
from .rate_finder import use_found_rate
from .recipe import Recipe, default_recipe, load_recipe
from .records import Position
from .report_page import command_line, run_title
from .results import FinetuneResult, finish_run, read_result
from .resume import LAST_CHECKPOINT
from .starting import accelerator_for, adapted, origin_of, require_known, without_path
from .trainer import Trainer
from .transforms import preprocess_of

if TYPE_CHECKING:
    from ..encoder import Encoder


def finetune(
    model: str | Encoder,
    data: str | Path,
    out: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    overrides: dict[str, Any] | None = None,
    num_classes: int | None = None,
    pretrained: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    on_bad: OnBad = "error",
    val_fraction: float = 0.2,
    split: str | Path | None = None,
    image_root: str | Path | None = None,
    fold: tuple[int, int] | None = None,
    teacher: str | Path | Encoder | None = None,
    find_lr: bool = False,
    device: str | None = None,
    workers: int | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 120.0,
    tensorboard: bool = False,
) -> FinetuneResult:
    """Train a model on labelled images and save the best epoch as a model directory.

    Args:
        model: a name that `create_model` takes, or a built model (its head is replaced when it has other classes).
        data: class folders, a table of paths and labels, or `PREFIX:...`, see `hybridvit.transfer.data.load_data`.
        out: the run's directory: weights, labels, preprocessing, recipe, logs, split, metrics, pictures, report.html.
        recipe: name or file of a recipe, or a Recipe; by default one that suits the number of images.
        overrides: fields of the recipe to change.
        num_classes: what the data is expected to have, if you want that checked.
        pretrained: start a name from its released weights, or from scratch.
        resume: go on from the last checkpoint in `out`, or start if there is none; the recipe there is used.
        overwrite: replace another run in `out`.
        on_bad: "error" refuses undecodable files with a list, "skip" leaves them out.
        device: "cpu", "cuda" or "mps"; by default the best there is. Under `accelerate launch` every process takes its
            own.
        val_fraction: share of the training images held out where the data has no `val/`.
        split: the `split.csv` of an earlier run, to train and validate on the same images as it did.
        image_root: folder that the paths of a table are relative to; by default the table's.
        fold: (2, 5) divides the training images into five parts and validates on the second.
        teacher: a trained model to learn from too, as the recipe's `distill` fields say: a name, a directory or a model
            that knows the classes of the data.
        find_lr: choose the peak rate by a short trial of rising rates.
        workers: processes that read images; by default one a core.
        progress: show a progress bar.
        checkpoint_seconds: a checkpoint is written about this often, and at the end of each epoch.
        tensorboard: also log for TensorBoard, into `tensorboard` in `out`; needs the package of that name.

    Raises:
        ValueError: for anything wrong with names, recipe, data or directory, before training starts.
        TrainingError: if the loss becomes NaN or a file cannot be written; the checkpoint in `out` is good.
        TrainingInterrupted: after Ctrl-C or SIGTERM; the checkpoint in `out` is good.
    """
    out = Path(out)
    if isinstance(model, str):
        model = full_name(model)
    accelerator = accelerator_for(device)
    check_directory(out, data, resume, overwrite)
    chosen = _chosen_recipe(recipe, overrides or {}, out, resume)
    if isinstance(model, str):
        require_known(model, pretrained)
    if find_lr and "lr" in (overrides or {}):
        raise ValueError("lr and find_lr exclude each other")
    asked = chosen or Recipe().replace(**overrides or {})
    METHODS[asked.method].require()
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    accelerator.wait_for_everyone()  # nothing is written before all processes have looked
    shown = Progress(progress and accelerator.is_main_process)
    if resume and (out / METRICS_FILE).is_file():
        result = read_result(out)
        shown.note(f"the run in {out} is finished: {len(result.history)} epochs, accuracy {result.accuracy:.4f}")
        return result
    with shown.checking() as checked:
        images = load_data(
            data,
            val_fraction=val_fraction,
            on_bad=on_bad,
            split=split,
            fold=fold,
            image_root=image_root,
            progress=checked,
        )
    if num_classes is not None and num_classes != len(images.classes):
        raise DataError(
            f"num_classes is {num_classes}, but {data} has {len(images.classes)} classes: {listed(images.classes)}"
        )
    if chosen is None:
        chosen = default_recipe(len(images.train), pretrained, asked.method).replace(**overrides or {})
    _describe(shown, model, images, chosen)

    torch.manual_seed(seed_of(chosen.seed, "head"))
    built = adapted(model, pretrained, images.classes, _with_bands(chosen, model, images, shown))
    built.labels, built.multi_label = images.classes, images.multi_label
    preprocess = measured_preprocess(built, images)
    if chosen.image_size:
        preprocess = type(preprocess)(**{**asdict(preprocess), "input_size": (chosen.image_size,) * 2})
    built.preprocess = preprocess

    origin = origin_of(model, pretrained, built, chosen, images)
    adviser = told_teacher = None
    if teacher is not None:
        adviser = teacher_of(teacher, images, preprocess, chosen, accelerator.device)
        told_teacher = without_path(full_name(str(teacher))) if isinstance(teacher, str | Path) else "TEACHER"
        origin["distilled_from"] = told_teacher if isinstance(teacher, str | Path) else "a model"

    def trainer_of(model: Encoder, recipe: Recipe, directory: Path, method: Method) -> Trainer:
        return Trainer(
            model,
            images,
            recipe,
            preprocess_of(model),
            directory,
            accelerator,
            keep=lambda best, position: _keep(best, position, out, origin),
            identity={"model": model.spec.to_dict(), "pretrained": pretrained, "data": _identity(images)},
            progress=shown,
            method=method,
            teacher=adviser,
            pretrained=pretrained,
            workers=workers,
            checkpoint_seconds=checkpoint_seconds,
            tensorboard=tensorboard,
        )

    method = METHODS[chosen.method]
    trainer = trainer_of(built, chosen, out, method)
    resumes = resume and (out / LAST_CHECKPOINT).is_file()
    if find_lr and not (resume and (out / RECIPE_FILE).is_file()):
        chosen = use_found_rate(trainer)
        origin["recipe"] = chosen.to_dict()
    if accelerator.is_main_process:
        if overwrite:
            remove_run(out)
        write_text(out / RECIPE_FILE, chosen.to_toml())
        write_text(out / SPLIT_FILE, split_table(images))
        if images.report is not None:
            write_text(out / DATA_FILE, json.dumps(images.report.to_dict(), indent=1) + "\n")
    try:
        if not resumes:
            trainer.position.baselines = measure_baselines(trainer)
        method.fit(trainer, resume)
        if chosen.finish_epochs and method.saves_model:
            trainer = finish_larger(trainer, out, resume, trainer_of)
    finally:
        shown.stop()
    divided = {"val_fraction": val_fraction} if split is None and fold is None else {"split": SPLIT_FILE}
    roots = {"image_root": Path(image_root).absolute().name} if image_root is not None else {}
    options = {"pretrained": pretrained, **divided, "on_bad": on_bad, **roots, "teacher": told_teacher}
    told = run_title(model, data), command_line(model, data, out, **options)
    return finish_run(trainer, images, out, shown, *told)


def _identity(data: Data) -> dict[str, Any]:
    """What makes data the same; all but the last tells a user what differs."""
    sizes = {"train images": len(data.train), "val images": len(data.val)}
    return {"classes": list(data.classes), **sizes, "content": data.fingerprint()}


def _chosen_recipe(
    recipe: str | Path | Recipe | None, overrides: dict[str, Any], out: Path, resume: bool
) -> Recipe | None:
    """The recipe that was asked for, or None for the default; a resumed run keeps its own."""
    chosen = recipe if isinstance(recipe, Recipe) or recipe is None else load_recipe(recipe)
    if chosen is not None:
        chosen = chosen.replace(**overrides)
    if not (resume and (out / RECIPE_FILE).is_file()):
        Recipe().replace(**overrides)  # so that a bad field is found before the images are read
        return chosen
    saved = load_recipe(out / RECIPE_FILE)
    wanted = chosen or saved.replace(**overrides)
    changed = [
        f"{name} {old!r} -> {wanted.to_dict()[name]!r}"
        for name, old in saved.to_dict().items()
        if wanted.to_dict()[name] != old
    ]
    if changed:
        raise RunDirectoryError(
            f"the run in {out} has another recipe ({', '.join(changed)}); resume without naming one, or start in a new "
            "directory"
        )
    return saved


def _with_bands(recipe: Recipe, model: str | Encoder, data: Data, shown: Progress) -> Recipe:
    """The recipe with as many channels as the images have bands, unless it or a built model says how many."""
    if recipe.channels or not isinstance(model, str) or not (data.report and data.report.bands):
        return recipe
    shown.note(f"images of {data.report.bands} bands: the model gets as many channels")
    return recipe.replace(channels=data.report.bands)


def _describe(shown: Progress, model: str | nn.Module, data: Data, recipe: Recipe) -> None:
    sizes = f"{len(data.train)} train, {len(data.val)} val" + (f", {len(data.test)} test" if data.test else "")
    shown.note(f"data: {len(data.classes)} classes ({listed(data.classes)}); {sizes} images")
    unequal = imbalance_note(torch.from_numpy(data.train.labels), data.classes) if recipe.balance == "none" else None
    for note in (*data.notes, *filter(None, [unequal])):
        shown.note(f"note: {note}")
    shown.note("recipe: " + recipe.to_toml().strip().replace("\n", ", "))
    shown.note(f"model: {model if isinstance(model, str) else type(model).__name__}")


def _keep(model: Encoder, position: Position, out: Path, origin: dict[str, Any]) -> None:
    """Save the best epoch so far as the run's model directory."""
    import hybridvit

    model.origin = origin | {"val_accuracy": round(position.best_accuracy, 4), "epoch": position.best_epoch}
    try:
        hybridvit.save_pretrained(model, out)
    except OSError as error:
        raise CheckpointError(f"{error}. {advice(error)}") from error
