"""Numbers of a spec that do not fit: whatever is edited, the model runs or an error names the place and the number."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from hybridvit.components import LinearHead, MeanPool
from hybridvit.encoder import Model
from hybridvit.registry import index, model_spec
from hybridvit.spec import Spec, SpecError
from tests.representatives import representatives, shortened

Path = tuple[int | str, ...]
LARGE_PRIME = 10_007
# A layer of so many channels or a table of so many places would be built, only to take memory and time.
GROWING = {"dim", "hidden", "inner", "rates", "coarse", "key_dim", "value_dim", "head_dim", "kernel", "count", "prefix"}


def parts(value: Any, path: Path = ()) -> Iterator[tuple[Path, Spec]]:
    """Every spec below a value, and the way to it."""
    if isinstance(value, Spec):
        yield path, value
        for field in dataclasses.fields(value):  # pyright: ignore[reportArgumentType]
            yield from parts(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for place, item in enumerate(value):
            yield from parts(item, (*path, place))


def edited(value: Any, path: Path, new: Spec) -> Any:
    """The value with another part at the end of a path."""
    if not path:
        return new
    first, *rest = path
    if isinstance(value, tuple):
        return tuple(edited(item, tuple(rest), new) if at == first else item for at, item in enumerate(value))
    return value.replace(**{str(first): edited(getattr(value, str(first)), tuple(rest), new)})


@functools.cache
def short_spec(name: str) -> Model:
    """With its own widths, which on `meta` cost nothing: all specs are read when tests are collected."""
    return shortened(model_spec(name))


@functools.cache
def numbers() -> dict[tuple[str, str], tuple[str, Path, Spec]]:
    """Every whole number of a kind of part, in the smallest model that has it."""
    found: dict[tuple[str, str], tuple[str, Path, Spec]] = {}
    for name in sorted(representatives(), key=lambda name: index()[name].params):
        for path, part in parts(short_spec(name)):
            for field, value in vars(part).items():
                if path and isinstance(value, int) and not isinstance(value, bool):
                    found.setdefault((part.kind, field), (name, path, part))
    return found


def until(model: Model, path: Path) -> Model:
    """The stages up to the one that the path leads into, alone; the whole model if it leads into the pool or head."""
    if path[0] != "stages":
        return model
    return model.replace(stages=model.stages[: int(path[1]) + 1], pool=MeanPool(), head=LinearHead())


def test_there_are_numbers_to_edit():
    assert len(numbers()) > 80


@pytest.mark.parametrize("number", numbers(), ids=".".join)
def test_numbers_below_the_least_are_refused(number: tuple[str, str]):
    kind, field = number
    _, _, part = numbers()[number]
    with pytest.raises(SpecError, match=rf"{kind}.{field}: expected a number of at least [01], found -1"):
        part.replace(**{field: -1})


def refusal(make: Callable[[], Model]) -> str:
    """The message with which an edited model is refused: when it is edited, built, or run; or nothing."""
    try:
        model = make()
        with torch.device("meta"):
            model.build().eval()(torch.empty(1, model.in_chans, 64, 64))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("number", numbers(), ids=".".join)
def test_an_edited_number_fits_or_is_named(number: tuple[str, str]):
    kind, field = number
    name, path, part = numbers()[number]
    model = until(short_spec(name), path)
    place = f"stage {path[1]}, " if path[0] == "stages" else f"{path[0]}: "
    for value in (getattr(part, field) + 1, *(() if field in GROWING else (LARGE_PRIME,))):
        message = refusal(lambda value=value: edited(model, path, part.replace(**{field: value})))
        if message.startswith(place):
            assert any(character.isdigit() for character in message.removeprefix(place)), message
        else:
            assert not message or message.startswith(f"{kind}.{field}: {value}") or "are too small" in message
