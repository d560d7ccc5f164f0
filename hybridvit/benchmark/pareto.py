"""Accuracy as others reported it against speed as it was measured here: which models nothing beats in both."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..weights.entries import entries_of
from ..zoo_path import zoo_path
from .records import BenchmarkError, Result
from .sides import OURS

Item = TypeVar("Item")


class Point(NamedTuple):
    """A released checkpoint: `top1` in percent, as `source` reports it, and its architecture's measured images/s."""

    name: str
    source: str
    top1: float
    images_per_second: float


def points(results: Sequence[Result], side: str = OURS) -> list[Point]:
    """The best reported checkpoint of each measured architecture, at the size that it was measured at.

    Where an architecture was measured several times, the fastest counts. One without a reported figure has no point.
    """
    found: dict[str, Point] = {}
    for result in results:
        measured = next((each for each in result.sides if each.name == side), None)
        if measured is None or result.model is None or result.suite != "inference":
            continue
        if "throughput" in measured.figures:
            rate = measured.figures["throughput"].spread.median
        elif "latency" in measured.figures and result.batch:
            rate = result.batch / measured.figures["latency"].spread.median
        else:
            continue
        reported = [
            Point(entry.name, entry.reported["source"], entry.reported["top1"], rate)
            for entry in entries_of(result.model)
            if entry.reported
            and entry.num_classes == 1000
            and result.img_size in _sizes(entry.reported.get("img_size"), entry.preprocess.input_size)
        ]
        if reported:
            best = max(reported, key=lambda point: point.top1)
            if result.model not in found or rate > found[result.model].images_per_second:
                found[result.model] = best
    return list(found.values())


def _sizes(reported: int | None, usual: tuple[int, int]) -> list[tuple[int, int]]:
    return [(reported, reported)] if reported else [usual]


def frontier(found: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, from the fastest to the most accurate."""
    return unbeaten(found, cost=lambda point: -point.images_per_second, worth=lambda point: point.top1)


def unbeaten(items: Iterable[Item], cost: Callable[[Item], float], worth: Callable[[Item], float]) -> list[Item]:
    """The items that no other beats in both, from the cheapest to the worthiest: the Pareto front."""
    best: list[Item] = []
    for item in sorted(items, key=lambda item: (cost(item), -worth(item))):
        if not best or worth(item) > worth(best[-1]):
            best.append(item)
    return best


def plot(results: Sequence[Result], path: Path, side: str = OURS) -> None:
    """Writes the points as an SVG, a mark for each source of accuracies.

    Raises BenchmarkError if results have nothing to show or were measured under several conditions, and
    ModuleNotFoundError without matplotlib.
    """
    import matplotlib
    from matplotlib.figure import Figure

    found = points(results, side)
    if not found:
        raise BenchmarkError(
            f"no inference of {side!r} with a reported accuracy at the measured size among the results"
        )
    conditions = {_conditions(result) for result in results if result.suite == "inference"}
    if len(conditions) > 1:
        raise BenchmarkError(f"speeds of different conditions make no common axis: {'; '.join(sorted(conditions))}")
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for source, mark in zip(dict.fromkeys(point.source for point in found), "osD^vPX", strict=False):
        of_source = [point for point in found if point.source == source]
        rates, accuracies = [point.images_per_second for point in of_source], [point.top1 for point in of_source]
        axes.scatter(rates, accuracies, marker=mark, label=f"reported by {_told(source)}", zorder=2)
    best = frontier(found)
    axes.plot([point.images_per_second for point in best], [point.top1 for point in best], color="0.8", zorder=1)
    for point in found:
        at = (point.images_per_second, point.top1)
        axes.annotate(point.name, at, fontsize=6, xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel(f"images/s of {side}, measured: {conditions.pop()}", fontsize=8)
    axes.set_ylabel("ImageNet-1k top-1 in percent, reported by others")
    axes.legend(fontsize=7)
    # The same results give the same file, byte for byte, so that a change shows.
    with matplotlib.rc_context({"svg.hashsalt": "hybridvit", "svg.fonttype": "path"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


@functools.cache
def _told(source: str) -> str:
    told = json.loads((zoo_path() / "reported.json").read_text()).get(source, {})
    return f"{source}: {told['what']}" if told else source


def _conditions(result: Result) -> str:
    settings, machine = result.settings, result.machine
    where = machine.gpu.name if machine.gpu else f"{machine.cpu}, {settings.threads} threads"
    batch = f"batch {result.batch}" if result.batch else "each model's best batch"
    return f"{where}, {settings.precision}, {batch}, {result.date[:10]}, torch {result.versions.torch}"
