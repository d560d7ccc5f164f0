"""What is reached without any training: figures that a run has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from .balance import class_counts
from .loader import seed_of
from .methods.knn import KnnClassifier
from .multilabel import evaluation_of

if TYPE_CHECKING:
    from torch import Tensor

    from .data import ImageSet
    from .trainer import Trainer

_MOST_IMAGES = 2_000  # of each set, so that it takes seconds


def measure_baselines(trainer: Trainer) -> dict[str, float]:
    """Figures on the validation images of always naming the commonest class, and of nearest neighbours.

    The neighbours are among the features of the model before it is trained; of large sets a part is taken.
    """
    data, seed = trainer.data, trainer.recipe.seed
    train, val = _part(data.train, seed), _part(data.val, seed)
    of_train, of_val = torch.from_numpy(data.train.labels), torch.from_numpy(data.val.labels)
    majority = majority_figure(of_train, of_val, data.classes)
    features = trainer.features(train, "train, for the baseline")
    neighbours = KnnClassifier(trainer.model, features, torch.from_numpy(train.labels), len(data.classes))
    logits = neighbours.logits(trainer.features(val, "val, for the baseline"))
    knn = evaluation_of(logits, torch.from_numpy(val.labels), data.classes).figure
    trainer.progress.note(
        f"before training, on the validation images: commonest class {majority:.4f}, nearest neighbours {knn:.4f}"
    )
    return {"majority": majority, "knn": knn}


def majority_figure(labels: Tensor, held_out: Tensor, classes: tuple[str, ...]) -> float:
    """The figure on held-out labels, (N,) or (N, classes), of always answering what is commonest among the others."""
    always = class_counts(labels, len(classes)).float().expand(len(held_out), -1)
    return evaluation_of(always, held_out, classes).figure


def verdict(figure: float, baselines: dict[str, float]) -> str | None:
    """What to say of a run that is not better than what needs no training."""
    name, best = max(baselines.items(), key=lambda item: item[1], default=("", -1.0))
    if figure > best:
        return None
    what = {"majority": "always naming the commonest class", "knn": "nearest neighbours on features before training"}
    return (
        f"warning: {figure:.4f} on the validation images is not better than {what[name]} ({best:.4f}). Try "
        "method=probe, a lower lr (--find-lr), more epochs, a pretrained model, or look for wrong labels in the data"
    )


def _part(images: ImageSet, seed: int) -> ImageSet:
    if len(images) <= _MOST_IMAGES:
        return images
    order = np.random.default_rng(seed_of(seed, "baselines")).permutation(len(images))
    return images.subset(np.sort(order[:_MOST_IMAGES]))
