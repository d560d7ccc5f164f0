"""Pictures of a run's images: how many a class, their sizes, samples of each class, and what looks wrong."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from .image_set import Data
    from .report import DataReport

    Item = tuple[Image.Image, str] | None  # a picture and what is said below it

_COLOURS = {"train": "#1f6feb", "val": "#d29922", "test": "#8250df"}
_MOST_BARS = 40
_MOST_ROWS = 12
_SAMPLES = 6
_THUMBNAIL = 96
_SMALLEST_SIDE = 8
_LARGEST_ASPECT = 8.0


def pictures(data: Data) -> dict[str, bytes]:
    """PNG files by name: `class_counts`, `sizes`, `samples`, and `suspicious` if anything is."""
    assert data.report is not None  # load_data made one
    found = {
        "class_counts": _class_counts(data.report),
        "sizes": _sizes(data.report),
        "samples": _sheet(_samples(data), _SAMPLES),
    }
    suspicious = list(_suspicious(data))
    return found | {"suspicious": _sheet(suspicious, _SAMPLES)} if suspicious else found


def _class_counts(report: DataReport) -> bytes:
    from matplotlib.figure import Figure

    totals = np.sum(list(report.counts.values()), axis=0)
    order = np.argsort(-totals, kind="stable")
    title = f"images of each of {len(order)} classes"
    if len(order) > _MOST_BARS:
        order = np.concatenate([order[: _MOST_BARS // 2], order[-_MOST_BARS // 2 :]])
        title += f": the {_MOST_BARS // 2} largest and the {_MOST_BARS // 2} smallest"
    figure = Figure(figsize=(7, 1.2 + 0.26 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(order))
    for split, counts in report.counts.items():
        shown = np.array(counts)[order]
        axes.barh(range(len(order)), shown, left=left, color=_COLOURS[split], label=split)
        left += shown
    axes.set_yticks(range(len(order)), [_plain(report.classes[number]) for number in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    return _png(figure)


def _sizes(report: DataReport) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.add_subplot()
    sizes, counts = np.unique(report.sizes, axis=0, return_counts=True)
    axes.scatter(sizes[:, 0], sizes[:, 1], s=8 + 4 * np.log2(counts), alpha=0.5, color=_COLOURS["train"])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("width in pixels")
    axes.set_ylabel("height in pixels")
    axes.set_title(f"{len(report.sizes)} images in {len(sizes)} size{'s' * (len(sizes) != 1)}", fontsize=10)
    return _png(figure)


def _samples(data: Data) -> list[Item]:
    """Of the largest classes a few training images each, spread evenly; a row a class, filled up with nothing."""
    labels = data.train.labels
    counts = data.train.counts(len(data.classes))
    shown: list[Item] = []
    for number in np.argsort(-counts, kind="stable")[:_MOST_ROWS].tolist():
        members = np.flatnonzero(labels[:, number] if data.train.multi_label else labels == number)
        chosen = np.unique(np.linspace(0, len(members) - 1, min(_SAMPLES, len(members))).astype(int))
        row: list[Item] = []
        for index in members[chosen].tolist():
            picture = _thumbnail(data, "train", index)
            row.append(None if picture is None else (picture, data.classes[number]))
        shown += row + [None] * (_SAMPLES - len(row))
    return shown


def _suspicious(data: Data) -> Iterator[Item]:
    """Images that may be mistakes, a row for each kind, with why."""
    report = data.report
    assert report is not None
    odd = {
        name: f"{width} x {height} pixels"
        for name, (width, height) in zip(report.names, report.sizes.tolist(), strict=True)
        if min(width, height) < _SMALLEST_SIDE or max(width, height) > _LARGEST_ASPECT * min(width, height)
    }
    kinds = (
        dict.fromkeys([name for each in report.copies.values() for name in each.torn], "copy with other label"),
        dict.fromkeys([name for shared in report.shared.values() for name in shared], "also in train"),
        dict.fromkeys(report.near_constant, "next to nothing"),
        odd,
    )
    place = {name: (split, index) for split, part in data.parts.items() for index, name in enumerate(part.names)}
    for reasons in kinds:
        for name, why in list(reasons.items())[:_SAMPLES]:
            picture = _thumbnail(data, *place[name])
            if picture is not None:
                yield picture, f"{_end_of(name)}\n{why}"


def _end_of(name: str, length: int = 18) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]


def _thumbnail(data: Data, split: str, index: int) -> Image.Image | None:
    """None for a file that can no longer be read: a picture is not worth a run."""
    try:
        image = data.parts[split].picture(index, covers=_THUMBNAIL)
    except BadImage:
        return None
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return image


def _sheet(items: list[Item], columns: int) -> bytes:
    from matplotlib.figure import Figure

    rows = -(-len(items) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.55 * rows), layout="constrained")
    for number, item in enumerate(items, start=1):
        if item is not None:
            axes: Axes = figure.add_subplot(rows, columns, number)
            axes.imshow(np.asarray(item[0]))
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(_plain(item[1]), fontsize=7)
    return _png(figure)


def _plain(text: str, length: int = 48) -> str:
    """As it is: a dollar would begin a formula."""
    return (text if len(text) <= length else text[: length - 1] + "…").replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        figure.savefig(file, dpi=110, format="png")
    return file.getvalue()
