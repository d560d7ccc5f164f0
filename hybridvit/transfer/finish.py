"""A last phase at a larger size (FixRes, arXiv 1906.06423): the classifier and the norms learn what objects look like
in images prepared for prediction, which show them larger than random crops did."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from .methods.base import Method

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..encoder import Encoder
    from .recipe import Recipe
    from .trainer import Trainer

FINISH = "finish"  # its folder in the run's, with logs and checkpoints of its own
_START = "start"  # in that folder: the best model of the epochs before
_RATE_SHARE = 0.5
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm)


class ClassifierAndNorms(Method):
    """Trains the classifier and all norms."""

    def prepare(self, model: Encoder, recipe: Recipe) -> None:
        model.freeze(0)
        model.requires_grad_(False)
        model.head.requires_grad_(True)
        for module in model.modules():
            if isinstance(module, _NORMS):
                module.requires_grad_(True)


def finishing_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the last phase: images as in prediction, but for flips, at half the rate."""
    return recipe.replace(
        method="full",
        epochs=recipe.finish_epochs,
        image_size=recipe.finish_size,
        lr=recipe.lr * _RATE_SHARE,
        augment="none" if recipe.augment == "none" else "flip",
        finish_size=0,
        finish_epochs=0,
        **dict.fromkeys(("probe_epochs", "patience", "freeze"), 0),
        **dict.fromkeys(("mixup", "cutmix", "erasing", "drop_path", "warmup_epochs"), 0.0),
    )


def finish_larger(
    main: Trainer, out: Path, resume: bool, trainer_of: Callable[[Encoder, Recipe, Path, Method], Trainer]
) -> Trainer:
    """Train the best model of a finished run further at the recipe's `finish_size`: the trainer that did.

    trainer_of: makes a trainer for (model, recipe, directory, method) that keeps its best model as the run's.
    """
    import hybridvit
    from hybridvit import adapt

    start = out / FINISH / _START
    if main.accelerator.is_main_process and not (start / "config.json").is_file():
        hybridvit.save_pretrained(hybridvit.create_model(f"local-dir:{out}"), start)
    main.accelerator.wait_for_everyone()
    recipe = finishing_recipe(main.recipe)
    model = adapt.with_img_size(hybridvit.create_model(f"local-dir:{start}"), recipe.image_size)
    trainer = trainer_of(model, recipe, out / FINISH, ClassifierAndNorms())
    trainer.progress.note(f"finishing at {recipe.image_size} x {recipe.image_size} pixels")
    trainer.fit(resume=resume)
    _join(main, trainer)
    return trainer


def _join(main: Trainer, last: Trainer) -> None:
    """Make the last trainer's log and position those of the whole run."""
    epochs, steps, seconds = main.position.epoch, main.position.epoch * main.batches.steps, main.position.seconds
    later = [
        dataclasses.replace(line, epoch=line.epoch + epochs, step=line.step + steps, seconds=line.seconds + seconds)
        for line in last.history
    ]
    last.history = main.history + later
    last.position.epoch += epochs
    last.position.best_epoch += epochs
    last.position.seconds += seconds
    last.position.baselines, last.position.probe_accuracy = main.position.baselines, main.position.probe_accuracy
