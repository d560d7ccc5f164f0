"""The models that stand for the others: the smallest of each distinct configuration, with few blocks, and narrow.

Two models have the same configuration if they differ in numbers only: they are made of the same components in the same
order.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import pickle
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hybridvit.encoder import Encoder, Model, Stage
from hybridvit.families import family_names, load_family
from hybridvit.meta import without_memory
from hybridvit.registry import index, model_spec, spec_from_dict
from hybridvit.spec import Spec
from tests.parity import perturb


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
    """The same model with blocks that repeat kept once, in turns too, for small images and few classes."""
    stages = tuple(stage.replace(blocks=tuple(without_repeats(list(stage.blocks)))) for stage in model.stages)
    return model.replace(stages=stages, img_size=img_size, num_classes=num_classes)


WIDE = 1_500_000  # parameters, from which on tests take seconds
_WIDTHS = {"dim", "hidden", "inner", "width"}


def divided(data: Any, by: int, heads: bool = True) -> Any:
    """A spec's JSON data with its widths divided, and, unless they stay, numbers of `heads` where they can be."""
    if isinstance(data, list):
        return [divided(item, by, heads) for item in data]
    if not isinstance(data, dict):
        return data
    found = {key: divided(value, by, heads) for key, value in data.items()}
    for key, value in data.items():
        is_width = key in _WIDTHS or (key == "groups" and data["kind"] == "Conv" and value > 1)
        if is_width and type(value) is int:
            if value % by:
                raise ValueError(f"{key} {value} is no multiple of {by}")
            found[key] = value // by
        elif heads and key == "heads" and type(value) is int and value % by == 0:
            found[key] = value // by
    return found


def narrowed(model: Model) -> Model:
    """The same configuration, a fourth to half as wide if it is wide and the arithmetic allows it."""
    with without_memory():
        if sum(parameter.numel() for parameter in model.build().parameters()) < WIDE:
            return model
    for by in (4, 3, 2):
        # A real pass takes a tenth of the time of one on `meta`.
        with contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError), torch.random.fork_rng(devices=[]):
            narrow = spec_from_dict(divided(model.to_dict(), by))
            with torch.no_grad():
                narrow.build().eval()(torch.zeros(2, narrow.in_chans, *narrow.img_size))
            if configuration(narrow.to_dict()) == configuration(model.to_dict()):
                return narrow
    return model


@functools.cache
def small_spec(name: str) -> Model:
    """A representative's shortened and narrowed spec."""
    return narrowed(shortened(model_spec(name)))


class _Writer(pickle.Pickler):
    """Leaves out, by their numbers, tensors and what copies of a model share."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.left_out: dict[int, Any] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, Tensor | Spec | types.FunctionType):
            return None
        self.left_out[id(obj)] = obj
        return id(obj)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, left_out: dict[int, Any]) -> None:
        super().__init__(file)
        self.left_out, self.copied = left_out, dict[int, Any]()

    def persistent_load(self, pid: int) -> Any:
        return copy.deepcopy(self.left_out[pid], self.copied)


def copies_of(model: Encoder) -> Callable[[], Encoder]:
    """What `copy.deepcopy(model)` gives, in a fourth of the time from the first on."""
    file = io.BytesIO()
    writer = _Writer(file)
    writer.dump(model)
    return lambda: _Reader(io.BytesIO(file.getvalue()), writer.left_out).load()


@functools.lru_cache(maxsize=1)
def unchanged_model(name: str) -> Encoder:
    """`freshly_built`, kept from one test of a model to the next: to look at, not to run or to change."""
    return freshly_built(name)


@functools.lru_cache(maxsize=1)
def _copies(name: str) -> Callable[[], Encoder]:
    return copies_of(unchanged_model(name))


@functools.lru_cache(maxsize=1)
def _perturbed_copies(name: str) -> Callable[[], Encoder]:
    model = small_model(name)
    perturb(model)
    return copies_of(model)


@functools.lru_cache(maxsize=1)
def _traced_copies(name: str) -> Callable[[], Encoder]:
    encoder = traced_spec(name).build().eval()
    perturb(encoder)
    return copies_of(encoder)


def freshly_built(name: str, narrow: bool = True) -> Encoder:
    """A representative, shortened, as wide as it is or narrowed, initialised under a seed, in eval mode."""
    torch.manual_seed(0)
    return (small_spec(name) if narrow else shortened(model_spec(name))).build().eval()


def small_model(name: str) -> Encoder:
    """A copy of `unchanged_model`."""
    return _copies(name)()


def perturbed_model(name: str) -> Encoder:
    """The same with every parameter and statistic drawn anew."""
    return _perturbed_copies(name)()


def traced_spec(name: str) -> Model:
    """A shortened spec with blocks of a kind in their first stage only, and without entrances that repeat.

    The last stage has two of each kind, for its maps are smallest, windows larger than they, and a window may move in
    the second. An entrance that changes the grid stays.
    """
    model, seen = small_spec(name), set[Any]()
    last = max((i for i, stage in enumerate(model.stages) if stage.blocks), default=0)
    stages: list[Stage] = []
    for number, stage in enumerate(model.stages):
        kinds = [configuration(block.to_dict()) for block in stage.blocks]
        kept = 2 if number == last else len(kinds)
        new = [
            block
            for place, (block, kind) in enumerate(zip(stage.blocks, kinds, strict=True))
            if (number == last or kind not in seen) and kinds[:place].count(kind) < kept
        ]
        entrance = configuration(stage.enter.to_dict())
        if new or number >= last or stage.prefix or stage.enter.out_stride(1) > 1 or entrance not in seen:
            stages.append(stage.replace(blocks=tuple(new)))
        seen.update(kinds, [entrance])
    return model.replace(stages=tuple(stages))


def traced_model(name: str) -> Encoder:
    """`perturbed_model` of a `traced_spec`, for a compiler takes time for each block."""
    return _traced_copies(name)()


@functools.cache
def one_of_each_family() -> list[str]:
    """The representative of each family that has the fewest parameters."""
    smallest: dict[str, str] = {}
    for name in sorted(representatives(), key=lambda name: index()[name].params):
        smallest.setdefault(index()[name].family, name)
    return sorted(smallest.values())


def kinds(data: Any) -> set[str]:
    """Kinds of the components in a spec's JSON data."""
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    own = {data["kind"]} if isinstance(data, dict) and "kind" in data else set[str]()
    return own.union(*map(kinds, inner))


@functools.cache
def traced_by_default() -> frozenset[str]:
    """Few models that have every kind of component between them: tracing takes seconds a model.

    Each next one has the most kinds that those before it lack, and of these the fewest parameters.
    """
    lacking = {name: kinds(model_spec(name).to_dict()) for name in one_of_each_family()}
    chosen: set[str] = set()
    while any(lacking.values()):
        name = max(lacking, key=lambda name: (len(lacking[name]), -index()[name].params))
        chosen.add(name)
        found = lacking[name]
        lacking = {other: rest - found for other, rest in lacking.items()}
    return frozenset(chosen)
