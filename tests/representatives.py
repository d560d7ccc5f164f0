"""The models that stand for the others: the smallest of each distinct configuration, cut down to a few blocks.

Two models have the same configuration if they differ in numbers only: they are made of the same components in the same
order.
"""

from __future__ import annotations

import copy
import functools
import itertools
from typing import Any

import torch

from hybridvit.encoder import Encoder, Model
from hybridvit.families import family_names, load_family
from hybridvit.registry import index, model_spec


def configuration(data: Any) -> Any:
    """A spec's JSON data without its numbers, equal neighbours written once."""
    if isinstance(data, dict):
        if set(data) == {"repeat", "of"}:
            return configuration(data["of"])
        return tuple((key, configuration(value)) for key, value in sorted(data.items()))
    if isinstance(data, list):
        return tuple(without_repeats([configuration(item) for item in data]))
    if isinstance(data, int | float) and not isinstance(data, bool):
        return "number"
    return data


def without_repeats(items: list[Any]) -> list[Any]:
    """A, B, A, B, A, B -> A, B: of neighbouring runs that are equal, the first."""
    for period in range(1, len(items) // 2 + 1):
        start = 0
        while start + 2 * period <= len(items):
            if items[start : start + period] == items[start + period : start + 2 * period]:
                del items[start + period : start + 2 * period]
            else:
                start += 1
    return items


@functools.cache
def representatives() -> list[str]:
    """Names of the smallest model of each distinct configuration."""
    smallest: dict[Any, str] = {}
    for family in map(load_family, family_names()):
        for name in sorted(family.sizes, key=lambda name: index()[name].params):
            smallest.setdefault(configuration(family.model(name).to_dict()), name)
    return sorted(smallest.values())


def shortened(model: Model, img_size: tuple[int, int] = (64, 64), num_classes: int = 7) -> Model:
    """The same model with equal neighbouring blocks kept once, for small images and few classes."""
    stages = tuple(
        stage.replace(blocks=tuple(block for block, _ in itertools.groupby(stage.blocks))) for stage in model.stages
    )
    return model.replace(stages=stages, img_size=img_size, num_classes=num_classes)


@functools.cache
def small_spec(name: str) -> Model:
    """A representative's shortened spec."""
    return shortened(model_spec(name))


@functools.lru_cache(maxsize=1)
def _built(name: str) -> Encoder:
    torch.manual_seed(0)
    return small_spec(name).build().eval()


def small_model(name: str, **changes: Any) -> Encoder:
    """A representative, shortened, freshly initialised under a seed, in eval mode."""
    if not changes:
        return copy.deepcopy(_built(name))
    torch.manual_seed(0)
    return small_spec(name).replace(**changes).build().eval()


@functools.cache
def one_of_each_family() -> list[str]:
    """The representative of each family that has the fewest parameters."""
    smallest: dict[str, str] = {}
    for name in sorted(representatives(), key=lambda name: index()[name].params):
        smallest.setdefault(index()[name].family, name)
    return sorted(smallest.values())
