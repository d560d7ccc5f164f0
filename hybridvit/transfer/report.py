"""Pictures of a model's results: the confusion matrix, and a sheet of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from .charts import draw_confusion, plain_text, shortened
from .checkpoint import write_atomically
from .images import load_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from PIL import Image

    from .data import ImageSet
    from .metrics import Evaluation

_SHEET_COLUMNS = 6
_THUMBNAIL = 160
_RIGHT, _WRONG = "#1a7f37", "#c1121f"


@dataclass(frozen=True)
class SheetItem:
    """One image of a sheet of predictions. truth is None where it is not known."""

    image: Image.Image
    label: str
    probability: float
    truth: str | None = None


@plain_text()
def confusion_picture(evaluation: Evaluation, path: Path) -> None:
    """PNG of the confusion matrix: counts in the cells, colours by the share of each true class."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    side = min(24.0, max(4.5, 0.55 * len(evaluation.classes) + 2.5))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    axes = figure.add_subplot()
    picture = draw_confusion(axes, evaluation, colormaps["Blues"])
    title = f"top-1 {evaluation.top1:.1%} of {evaluation.count:,} images, ECE {evaluation.ece:.3f}"
    axes.set_title(title, fontsize=11)
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("share of the true class")
    _save(figure, path)


@plain_text()
def prediction_sheet(items: Sequence[SheetItem], path: Path, title: str = "") -> None:
    """PNG with one thumbnail an item, its label and probability below it.

    Where the truth is known, right ones are framed in green, wrong ones in red and with the true label.
    """
    from matplotlib.figure import Figure

    columns = min(_SHEET_COLUMNS, len(items))
    rows = -(-len(items) // columns)
    figure = Figure(figsize=(1.75 * columns, 2.15 * rows + (0.4 if title else 0)), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11)
    for number, item in enumerate(items, start=1):
        axes = figure.add_subplot(rows, columns, number)
        grey = item.image.mode == "L"
        axes.imshow(np.asarray(item.image), cmap="gray" if grey else None, vmin=0, vmax=255)
        axes.set_xticks([])
        axes.set_yticks([])
        wrong = item.truth is not None and item.truth != item.label
        colour = "black" if item.truth is None else _WRONG if wrong else _RIGHT
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=2.5 if wrong else 1.5)
        text = f"{shortened(item.label)} {item.probability:.0%}"
        axes.set_xlabel(f"{text}\nis {shortened(item.truth or '')}" if wrong else text, color=colour, fontsize=8)
    _save(figure, path)


def evaluation_sheet(evaluation: Evaluation, images: ImageSet, channels: int, path: Path, count: int = 24) -> None:
    """A sheet whose first half are the most confident mistakes and whose rest is drawn evenly from the set."""
    labels = evaluation.labels.numpy()
    wrong = np.flatnonzero(evaluation.predictions.numpy() != labels)
    mistakes = wrong[np.argsort(-evaluation.confidence.numpy()[wrong], kind="stable")][: count // 2]
    others = np.setdiff1d(np.arange(len(images)), mistakes)
    evenly = np.linspace(0, len(others) - 1, min(count - len(mistakes), len(others))).astype(int)
    chosen = [*mistakes.tolist(), *others[evenly].tolist()]
    items = [
        SheetItem(
            image=thumbnail(images.picture(index, channels, covers=_THUMBNAIL)),
            label=evaluation.classes[int(evaluation.predictions[index])],
            probability=float(evaluation.confidence[index]),
            truth=evaluation.classes[labels[index]],
        )
        for index in chosen
    ]
    others_shown = len(items) - len(mistakes)
    title = f"{len(mistakes)} most confident mistakes, then {others_shown} others; top-1 {evaluation.top1:.1%}"
    prediction_sheet(items, path, title)


def thumbnail(image: Image.Image | Path) -> Image.Image:
    """An image or an image file, small enough for a sheet."""
    if not isinstance(image, PIL.Image.Image):
        image = load_image(image, covers=_THUMBNAIL)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return image


def _save(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
