"""Learning from a trained model besides the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..weights.load import load_model
from .errors import DataError
from .transforms import preprocess_of

if TYPE_CHECKING:
    from pathlib import Path

    from ..encoder import Encoder
    from ..preprocess import Preprocess
    from .data import Data
    from .recipe import Recipe


class Teacher:
    """A trained model that sees the student's images, normalised and sized as it expects them.

    Args:
        model: its labels, if it has any, are matched with the classes by name.
        preprocess: of the student, whose loader makes the images.

    Raises DataError for a model with other classes or another number of channels.
    """

    def __init__(
        self,
        model: Encoder,
        classes: tuple[str, ...],
        preprocess: Preprocess,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.order = torch.tensor(_order(model, classes), device=device)
        own = preprocess_of(model)
        if own.channels != preprocess.channels:
            raise DataError(
                f"the teacher sees images of {own.channels} channels, the student of {preprocess.channels}; set the "
                f"recipe's channels to {own.channels} or take another teacher"
            )
        self.size = own.input_size
        self.scale, self.shift = (value.to(device) for value in _conversion(preprocess, own))
        self.hard, self.weight, self.temperature = (
            recipe.distill == "hard",
            recipe.distill_weight,
            recipe.distill_temperature,
        )

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Its logits (B, classes), in the order of the classes, of images (B, C, H, W) normalised for the student."""
        images = images * self.scale + self.shift
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return self.model(images).float()[:, self.order]

    def mixed(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """The loss of the labels and that of the teacher, by `distill_weight`."""
        theirs = self.logits(images)
        if self.hard:
            taught = F.cross_entropy(logits, theirs.argmax(dim=1))
        else:
            ours, theirs = (each.div(self.temperature).log_softmax(dim=1) for each in (logits, theirs))
            # The square keeps the gradient's size at any temperature (arXiv 1503.02531).
            taught = self.temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        return (1 - self.weight) * loss + self.weight * taught


def teacher_of(
    model: str | Path | Encoder, data: Data, preprocess: Preprocess, recipe: Recipe, device: torch.device
) -> Teacher:
    """A teacher for a student with that preprocessing: a name, a directory or a model."""
    if data.train.labels.ndim == 2:
        raise DataError("a teacher needs data with one label an image")
    return Teacher(load_model(model), data.classes, preprocess, recipe, device)


def _order(model: Encoder, classes: tuple[str, ...]) -> list[int]:
    """The number of each class among the teacher's."""
    known = model.labels
    if known is None and model.spec.num_classes == len(classes):
        return list(range(len(classes)))
    missing = [name for name in classes if name not in (known or ())]
    if missing:
        raise DataError(
            f"the teacher does not know {', '.join(map(repr, missing[:5]))}; it needs every class of the data: "
            "fine-tune it on this data first"
        )
    assert known is not None
    return [known.index(name) for name in classes]


def _conversion(student: Preprocess, teacher: Preprocess) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C, 1, 1): from images normalised for the student to those normalised for the teacher."""
    (mean, std), (own_mean, own_std) = (
        (torch.tensor(each.mean)[:, None, None], torch.tensor(each.std)[:, None, None]) for each in (student, teacher)
    )
    return std / own_std, (mean - own_mean) / own_std
