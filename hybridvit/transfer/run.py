"""`finetune`: from names and folders to a trained, saved and scored model."""

from __future__ import annotations

import json
import os
import platform
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..adapt import without_results
from ..weights.load import full_name
from ..weights.resolve import weight_path
from ..weights.sources import DIRECTORY, HUB
from .balance import imbalance_note
from .baselines import measure_baselines, verdict
from .calibration import calibrate
from .checkpoint import CheckpointError, advice, write_text
from .data import Data, OnBad, load_data, split_table
from .data.pictures import pictures
from .data.statistics import measured_preprocess
from .device import torch_device
from .directory import (
    CONFUSION_FILE,
    DATA_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    RECIPE_FILE,
    REPORT_FILE,
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
from .metrics import Evaluation
from .progress import Progress
from .rate_finder import use_found_rate
from .recipe import Recipe, default_recipe, load_recipe
from .records import Epoch, Position
from .report_page import Run, command_line, run_title, write_report
from .resume import LAST_CHECKPOINT
from .trainer import Trainer
from .transforms import preprocess_of

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..encoder import Encoder


@dataclass(frozen=True)
class FinetuneResult:
    """accuracy: top-1 on the test images if the data has any, else on the validation images; both in 0..1.

    For data with several labels an image both are the mean average precision. baselines: what needs no training.
    """

    accuracy: float
    val_accuracy: float
    best_epoch: int
    seconds: float
    directory: Path
    history: tuple[Epoch, ...]
    baselines: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self) | {"directory": str(self.directory)}


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
    accelerator = _accelerator(device)
    check_directory(out, data, resume, overwrite)
    chosen = _chosen_recipe(recipe, overrides or {}, out, resume)
    if isinstance(model, str):
        _require_known(model, pretrained)
    if find_lr and "lr" in (overrides or {}):
        raise ValueError("lr and find_lr exclude each other")
    asked = chosen or Recipe().replace(**overrides or {})
    METHODS[asked.method].require()
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    accelerator.wait_for_everyone()  # nothing is written before all processes have looked
    shown = Progress(progress and accelerator.is_main_process)
    if resume and (out / METRICS_FILE).is_file():
        result = _read_result(out)
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
    built = _adapted(model, pretrained, images.classes, chosen)
    built.labels, built.multi_label = images.classes, images.multi_label
    preprocess = measured_preprocess(built, images)
    if chosen.image_size:
        preprocess = type(preprocess)(**{**asdict(preprocess), "input_size": (chosen.image_size,) * 2})
    built.preprocess = preprocess

    origin = _origin(model, pretrained, built, chosen, images)
    adviser = None
    if teacher is not None:
        adviser = teacher_of(teacher, images, preprocess, chosen, accelerator.device)
        origin["distilled_from"] = (
            _without_path(full_name(str(teacher))) if isinstance(teacher, str | Path) else "a model"
        )

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
    options = {"pretrained": pretrained, "val_fraction": val_fraction, "on_bad": on_bad}
    told = run_title(model, data), command_line(model, data, out, **options)
    return _finish(trainer, images, out, shown, *told)


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


def _accelerator(device: str | None) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    if device not in (None, "cpu", "cuda", "mps"):
        raise ValueError(
            f"device must be cpu or cuda, or mps on a Mac, got {device!r}; CUDA_VISIBLE_DEVICES selects a GPU"
        )
    torch_device(device)
    # Precision and accumulation are the recipe's, whatever `accelerate launch` was told.
    plugin = GradientAccumulationPlugin(num_steps=1)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", gradient_accumulation_plugin=plugin)
    if device in ("cuda", "mps") and accelerator.device.type != device:
        raise ValueError(
            f"accelerate keeps the device that this process used first, {accelerator.device.type}; use a new process "
            f"for {device}"
        )
    return accelerator


def _require_known(name: str, pretrained: bool) -> None:
    """An unknown model should be found before minutes are spent on reading images."""
    from ..registry import model_spec
    from ..weights.entries import entries_of, find_entry

    if ":" in name or weight_path(name):  # a Hub, a directory or a file, which create_model asks
        return
    if "." in name:
        find_entry(name)
        return
    model_spec(name)
    if pretrained and not entries_of(name):
        raise ValueError(
            f"{name} has no released weights; train it from scratch with pretrained=False (--no-pretrained), or take a "
            "model of `hybridvit list --pretrained`"
        )


def _adapted(model: str | Encoder, pretrained: bool, classes: tuple[str, ...], recipe: Recipe) -> Encoder:
    """The model with a head for the classes, and the recipe's channels and image size.

    A head is kept if it is for the same classes, in the same order.
    """
    import hybridvit
    from hybridvit import adapt
    from hybridvit.weights.sources import PartialWeightsWarning

    if isinstance(model, str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PartialWeightsWarning)  # the rest is about to be trained
            model = hybridvit.create_model(
                model,
                pretrained=pretrained,
                num_classes=None if pretrained else len(classes),
                in_chans=recipe.channels or None,
                img_size=recipe.image_size or None,
            )
    elif recipe.channels and model.spec.in_chans != recipe.channels:
        model = adapt.with_in_chans(model, recipe.channels)
    if recipe.image_size and model.spec.img_size != (recipe.image_size, recipe.image_size):
        model = adapt.with_img_size(model, recipe.image_size)
    same_classes = model.spec.num_classes == len(classes) and model.labels in (None, classes)
    return model if same_classes else adapt.with_num_classes(model, len(classes))


def _describe(shown: Progress, model: str | nn.Module, data: Data, recipe: Recipe) -> None:
    sizes = f"{len(data.train)} train, {len(data.val)} val" + (f", {len(data.test)} test" if data.test else "")
    shown.note(f"data: {len(data.classes)} classes ({listed(data.classes)}); {sizes} images")
    unequal = imbalance_note(torch.from_numpy(data.train.labels), data.classes) if recipe.balance == "none" else None
    for note in (*data.notes, *filter(None, [unequal])):
        shown.note(f"note: {note}")
    shown.note("recipe: " + recipe.to_toml().strip().replace("\n", ", "))
    shown.note(f"model: {model if isinstance(model, str) else type(model).__name__}")


def _origin(model: str | Encoder, pretrained: bool, built: Encoder, recipe: Recipe, data: Data) -> dict[str, Any]:
    """What is saved with the weights about where they come from; a name, never a path of this machine."""
    origin = without_results(built.origin) or {}
    for name in ("source", "calibration", "distilled_from"):
        origin.pop(name, None)
    if isinstance(model, str) and pretrained:
        origin["finetuned_from"] = _without_path(model)
        if model.startswith(HUB):
            origin["base_model"] = model.removeprefix(HUB).partition("@")[0]
    elif isinstance(model, str):
        origin.pop("finetuned_from", None)
    return origin | {"recipe": recipe.to_dict(), "images": len(data.train)}


def _without_path(model: str | Path) -> str:
    """What to call a model: its name, or that of its file or directory."""
    name = str(model)
    path = weight_path(name) or (Path(name.removeprefix(DIRECTORY)) if name.startswith(DIRECTORY) else None)
    return path.name if path else name


def _keep(model: Encoder, position: Position, out: Path, origin: dict[str, Any]) -> None:
    """Save the best epoch so far as the run's model directory."""
    import hybridvit

    model.origin = origin | {"val_accuracy": round(position.best_accuracy, 4), "epoch": position.best_epoch}
    try:
        hybridvit.save_pretrained(model, out)
    except OSError as error:
        raise CheckpointError(f"{error}. {advice(error)}") from error


def _finish(trainer: Trainer, data: Data, out: Path, shown: Progress, title: str, command: str) -> FinetuneResult:
    """Score the saved model once on the test images, or on the validation images, and write the figures."""
    import hybridvit

    from .report import confusion_picture, evaluation_sheet

    trainer.accelerator.wait_for_everyone()  # the first process may still be saving
    calibration = None
    if trainer.method.saves_model:
        trainer.use(hybridvit.create_model(f"local-dir:{out}"))
        calibration = calibrate(trainer, out) if trainer.recipe.calibrate else None
    images = data.test or data.val
    evaluation = trainer.evaluate(images)
    position = trainer.position
    result = FinetuneResult(
        accuracy=evaluation.figure,
        val_accuracy=position.best_accuracy,
        best_epoch=position.best_epoch,
        seconds=position.seconds,
        directory=out,
        history=tuple(trainer.history),
        baselines=position.baselines,
    )
    if trainer.accelerator.is_main_process:
        if isinstance(evaluation, Evaluation):
            confusion_picture(evaluation, out / CONFUSION_FILE)
            evaluation_sheet(evaluation, images, trainer.preprocess.channels, out / PREDICTIONS_FILE)
        metrics = {
            "split": "test" if data.test else "val",
            **evaluation.to_dict(),
            "accuracy": result.accuracy,
            "val_accuracy": result.val_accuracy,
            "baselines": result.baselines,
            "calibration": calibration,
            "best_epoch": result.best_epoch,
            "epochs": position.epoch,
            "seconds": round(result.seconds, 1),
            "train_images": len(data.train),
            "probe_accuracy": position.probe_accuracy,
            "environment": environment(trainer.device),
            "history": [asdict(line) for line in trainer.history],
        }
        if trainer.method.saves_model:
            run = Run(
                title=title,
                command=command,
                model=trainer.model,
                data=data,
                evaluation=evaluation,
                metrics=metrics,
                pictures=pictures(data),
            )
            write_report(run, out / REPORT_FILE)
        write_text(out / METRICS_FILE, json.dumps(metrics, indent=1) + "\n")
    name, which = evaluation.figure_name, "saved model" if trainer.method.saves_model else "vote"
    best = f"best epoch {result.best_epoch}: " if result.history else ""
    shown.note(
        f"{best}val {name} {result.val_accuracy:.4f}; "
        f"{'test' if data.test else 'val'} {name} of the {which} {result.accuracy:.4f} on "
        f"{evaluation.count} images. Saved in {out}"
    )
    if trainer.method.saves_model and (not_better := verdict(result.val_accuracy, result.baselines or {})):
        shown.note(not_better)
    return result


def _read_result(out: Path) -> FinetuneResult:
    metrics = json.loads((out / METRICS_FILE).read_text(encoding="utf-8"))
    return FinetuneResult(
        accuracy=metrics["accuracy"],
        val_accuracy=metrics["val_accuracy"],
        best_epoch=metrics["best_epoch"],
        seconds=metrics["seconds"],
        directory=out,
        history=tuple(Epoch(**line) for line in metrics["history"]),
        baselines=metrics["baselines"],
    )


def environment(device: torch.device) -> dict[str, Any]:
    """Hardware and versions, without names of users, hosts or paths."""
    import hybridvit

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "hybridvit": hybridvit.__version__,
        "python": platform.python_version(),
    }
