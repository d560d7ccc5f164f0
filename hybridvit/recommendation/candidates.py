"""Which models are judged: those that were named, or a short list by what others report of the zoo's checkpoints."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..benchmark.pareto import unbeaten
from ..registry import IndexEntry, index
from ..weights.entries import WeightEntry, entries, find_entry
from ..weights.load import full_name
from ..weights.resolve import is_place
from ..weights.schema import licences
from ..weights.sources import HUB

MOST_PARAMS = 30.0  # millions, of the short list where nobody says
FARTHEST_BEHIND = 25.0  # points of reported top-1 behind the best, which no price makes up for
LARGEST_SIDE = 288  # pixels; features of larger images take a CPU many minutes a model


@dataclass(frozen=True)
class Candidates:
    """The names, as `create_model` takes them, and how they were found, in one sentence."""

    names: tuple[str, ...]
    how: str


def candidates(asked: Sequence[str], count: int, max_params: float | None) -> Candidates:
    """The models to judge.

    Args:
        asked: names that `create_model` takes, and shell patterns over `arch.tag`; empty for a short list of the zoo.
        count: how many a pattern, or the short list, stands for at most.
        max_params: millions of parameters that a model of the zoo may have, which the index tells.

    Raises:
        UnknownNameError: for a name of the zoo that is none.
        ValueError: for a pattern without a match, and if `max_params` leaves none.
    """
    if not asked:
        most = MOST_PARAMS if max_params is None else max_params
        within = [entry for entry in entries().values() if _cost(entry).params <= 1e6 * most]
        listed = short_list(within, count)
        if not listed:
            raise ValueError(
                f"no checkpoint with a reported accuracy has at most {most:g} million parameters; raise it, or name "
                "models"
            )
        return Candidates(
            tuple(entry.name for entry in listed),
            f"{len(listed)} checkpoints of up to {most:g} million parameters that no other beats in both ImageNet "
            "accuracy, as others report it, and operations an image, spread over the range of operations",
        )
    found: dict[str, None] = {}
    thinned: list[str] = []
    for each in asked:
        if is_place(each) or not _is_pattern(each):
            found[_resolved(each)] = None
            continue
        matches = [entry for entry in entries().values() if _matches(entry, each)]
        if not matches:
            raise ValueError(f"no released weights match {each!r}; `hybridvit list --pretrained` shows all")
        within = [entry for entry in matches if max_params is None or _cost(entry).params <= 1e6 * max_params]
        taken = short_list(within, count) if len(within) > count else within
        if not taken:
            raise ValueError(
                f"of {len(matches)} checkpoints that match {each!r} none has a reported accuracy and at most "
                f"{math.inf if max_params is None else max_params:g} million parameters"
            )
        if len(taken) < len(matches):
            thinned.append(f"{len(taken)} of {len(matches)} for {each}")
        found |= dict.fromkeys(entry.name for entry in taken)
    how = f", of patterns those on the Pareto front of reported accuracy ({'; '.join(thinned)})" if thinned else ""
    return Candidates(tuple(found), f"{len(found)} models as named{how}")


def short_list(of: Iterable[WeightEntry], count: int) -> list[WeightEntry]:
    """At most `count` checkpoints, from the fewest operations to the most accurate, none of which another beats.

    Compared are those that classify ImageNet-1k, whose accuracy is reported at the size of the index's operations,
    with a known licence and without a pickle. Those of large images are left out. Of more than `count`, they are spread
    evenly over the logarithm of the operations.
    """
    comparable = [entry for entry in of if _is_comparable(entry)]
    best = max((_top1(entry) for entry in comparable), default=0.0)
    near = [entry for entry in comparable if _top1(entry) >= best - FARTHEST_BEHIND]
    front = unbeaten(near, cost=lambda entry: _cost(entry).flops, worth=_top1)
    return _spread([entry for entry in front if max(_cost(entry).img_size) <= LARGEST_SIDE], count)


def _is_comparable(entry: WeightEntry) -> bool:
    size = entry.preprocess.input_size
    return (
        entry.reported is not None
        and entry.num_classes == 1000
        and not (entry.covers or entry.donor or entry.pickled)
        and licences()[entry.licence].commercial is not None
        and size == _cost(entry).img_size
        and entry.reported.get("img_size", size[0]) == size[0]
    )


def _top1(entry: WeightEntry) -> float:
    assert entry.reported is not None
    return entry.reported["top1"]


def _cost(entry: WeightEntry) -> IndexEntry:
    return index()[entry.architecture]


def _spread(front: Sequence[WeightEntry], count: int) -> list[WeightEntry]:
    """Of a front from cheap to dear: both ends, and what is nearest to equal steps of the logarithm of operations."""
    if len(front) <= count:
        return list(front)
    if count == 1:
        return [front[-1]]
    places = [math.log(_cost(entry).flops) for entry in front]
    step = (places[-1] - places[0]) / (count - 1)
    chosen: list[int] = []
    for number in range(count):
        first, last = (chosen[-1] + 1 if chosen else 0), len(front) - count + number
        wanted = places[0] + number * step
        chosen.append(min(range(first, last + 1), key=lambda place: abs(places[place] - wanted)))
    return [front[place] for place in chosen]


def is_elsewhere(name: str) -> bool:
    """Whether the weights of a name are on the Hub or behind an address."""
    return name.startswith(HUB) if is_place(name) else find_entry(name).source.startswith(("hf:", "url:"))


def _is_pattern(name: str) -> bool:
    return any(each in name for each in "*?[")


def _matches(entry: WeightEntry, pattern: str) -> bool:
    return fnmatch.fnmatchcase(entry.name, pattern) or fnmatch.fnmatchcase(entry.architecture, pattern)


def _resolved(name: str) -> str:
    """`local-dir:PATH` for a directory, and `arch.tag` for `arch`, whose default tag may be another one tomorrow."""
    full = full_name(name)
    return full if is_place(full) else find_entry(full).name
