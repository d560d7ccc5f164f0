"""Charts of a run as SVG that suits a light and a dark page. A chart is drawn once; its ink is exchanged afterwards."""

from __future__ import annotations

import io
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from .metrics import Evaluation

_INK, _LINES = "#010203", "#010204"  # stand for the colours of text and of lines until the page's are put in
_LIGHT = {_INK: "#3d444d", _LINES: "#d1d9e0"}
_DARK = {_INK: "#b7bdc8", _LINES: "#3d444d"}
BLUE, ORANGE = "#4184e4", "#d9822b"
_CELLS = ["#4184e400", "#4184e4"]
_FEW_EPOCHS = 30  # up to which each of them is marked
_MOST_COUNTS = 25  # classes beyond which the counts in the cells would be too small to read
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "hybridvit",  # the same chart has the same bytes
    "svg.fonttype": "none",  # letters stay letters, which the reader's own fonts have
    "text.parse_math": False,  # a $ in the name of a class is a $
    "text.color": _INK,
    "axes.edgecolor": _LINES,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINES,
    "grid.linewidth": 0.6,
    "xtick.color": _LINES,
    "ytick.color": _LINES,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
}


class Chart(NamedTuple):
    """A picture as two data URIs, and what it shows in words."""

    light: str
    dark: str
    title: str


@contextmanager
def plain_text() -> Iterator[None]:
    """Names of classes are drawn as they are: no mathematics in them, no complaint about letters that a font lacks."""
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def curves(history: Sequence[Mapping[str, Any]], figure: str = "Accuracy") -> list[Chart]:
    """Loss, accuracy or another figure, rate, images a second and the share of waiting for data, as far as logged."""
    wanted = {
        "Loss": {"training": "train_loss", "validation": "val_loss"},
        figure: {"training": "train_accuracy", "validation": "val_accuracy"},
        "Learning rate": {"": "lr"},
        "Images a second": {"": "images_per_second"},
        "Share of time waiting for data": {"": "data_wait"},
    }
    charts: list[Chart] = []
    for title, lines in wanted.items():
        known = {label: column for label, key in lines.items() if (column := _column(history, key))}
        if known:
            charts.append(_chart(title, (4.0, 2.5), lambda axes, known=known: _draw_lines(axes, known)))
    return charts


def _column(history: Sequence[Mapping[str, Any]], key: str) -> dict[int, float]:
    """The logged values by epoch; empty where nothing was logged."""
    return {line["epoch"]: line[key] for line in history if line.get(key) is not None}


def _draw_lines(axes: Axes, lines: Mapping[str, Mapping[int, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for (label, values), colour in zip(lines.items(), (ORANGE, BLUE) if len(lines) > 1 else (BLUE,), strict=True):
        marker = "o" if len(values) <= _FEW_EPOCHS else None
        axes.plot(list(values), list(values.values()), color=colour, label=label, marker=marker, markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    if len(lines) > 1:
        axes.legend(fontsize=9)
    else:
        axes.set_ylim(bottom=0)  # an amount, whose ups and downs would look large otherwise


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Chart:
    """Accuracy against confidence, bin by bin (arXiv 1706.04599); a calibrated model is on the diagonal."""

    def draw(axes: Axes) -> None:
        which = np.minimum((confidence * bins).astype(int), bins - 1)
        counts = np.bincount(which, minlength=bins)
        shares = np.bincount(which, weights=correct, minlength=bins) / counts.clip(min=1)
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--", label="calibrated")
        axes.bar((np.arange(bins) + 0.5) / bins, shares, width=0.9 / bins, color=BLUE, label="this model")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
        axes.legend(fontsize=9, loc="upper left")

    return _chart("Reliability", (4.0, 3.2), draw)


def confusion(evaluation: Evaluation) -> Chart:
    """The confusion matrix: counts in the cells, colours by the share of each true class."""
    from matplotlib.colors import LinearSegmentedColormap

    cells = LinearSegmentedColormap.from_list("cells", _CELLS)
    side = min(16.0, max(4.0, 0.5 * len(evaluation.classes) + 2.0))

    def draw(axes: Axes) -> None:
        axes.grid(False)
        draw_confusion(axes, evaluation, cells, ink=_INK, paper="#ffffff")

    return _chart("Confusion matrix", (side, side), draw)


def draw_confusion(
    axes: Axes, evaluation: Evaluation, cells: Colormap, ink: str = "black", paper: str = "white"
) -> AxesImage:
    """The matrix with the names of the classes; counts are in `ink`, in dark cells in `paper`."""
    counts = evaluation.confusion.numpy()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    size = len(counts)
    picture = axes.imshow(shares, cmap=cells, vmin=0, vmax=1)
    names = [shortened(name) for name in evaluation.classes]
    label_size = max(5.0, 10 - size / 12)
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=label_size)
    axes.set_yticks(range(size), names, fontsize=label_size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if size <= _MOST_COUNTS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = paper if shares[row, column] > 0.55 else ink
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=label_size
            )
    return picture


def shortened(name: str, length: int = 22) -> str:
    """A name that fits beside a chart, without characters that an SVG cannot hold."""
    shown = "".join(each if each.isprintable() else " " for each in name[: length + 1])
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def _chart(title: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> Chart:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with plain_text(), rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        svg = _svg(figure)
    return Chart(_data_uri(svg, _LIGHT), _data_uri(svg, _DARK), title)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _data_uri(svg: str, colours: Mapping[str, str]) -> str:
    for stand_in, colour in colours.items():
        svg = svg.replace(stand_in, colour)
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
