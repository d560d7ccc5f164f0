"""Specs: frozen descriptions of a model and of its parts, without tensors and without torch.

A model is a value: a tree of specs. Every spec says how to build its module, how it changes width and grid,
and serialises to JSON and back. Unknown kinds, unknown fields and values of the wrong type are errors.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

from .limits import LARGEST_NUMBER, LONGEST_SHOWN, MOST_PARTS, shown


class SpecError(ValueError):
    """A spec that cannot be read or does not fit together; the message names the part and the fix."""


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Puts the place in front of the message of a SpecError."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{place}{error}") from None


class Grid(NamedTuple):
    """Layout of a token sequence: `prefix` tokens (class, register, ...), then `height * width` tokens row by row."""

    height: int
    width: int
    prefix: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens in the sequence, prefix included."""
        return self.prefix + self.height * self.width

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


def fewer(size: int, stride: int) -> int:
    """size / stride, rounded up, in the form that convolutions have: of two, a program for any size proves nothing."""
    return (size - 1) // stride + 1


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' for an unknown name, or the empty string when nothing is close."""
    if len(name) > LONGEST_SHOWN:  # which takes as long as it is
        return ""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Spec:
    """Base of all specs. A subclass is a frozen, keyword-only dataclass, known by its `kind`.

    A whole number counts something, so it is at least 1; 0 fits where it is the default or `may_be_zero` names the
    field. `part_counts` names those that say how many modules are made.

    The kind of a part in `hybridvit.components` or `hybridvit.encoder` is its class name, that of a part defined in a
    family file is `family.Class`, and that of anybody else's part is its full dotted name.
    """

    kind: ClassVar[str] = "Spec"
    takes_prefix: ClassVar[bool] = True
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    part_counts: ClassVar[tuple[str, ...]] = ()
    _kinds: ClassVar[dict[str, type[Spec]]] = {}
    _module: ClassVar[Callable[..., Any] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        cls.kind = _kind_of(cls)
        Spec._kinds[cls.kind] = cls

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for name in _fields(type(self)):
            value = getattr(self, name)
            checked = _from_data(value, hints[name], f"{self.kind}.{name}")
            if checked is not value:  # a list that is to be a tuple, an int that is to be a float
                object.__setattr__(self, name, checked)
            if isinstance(checked, int) and not isinstance(checked, bool):
                least = 0 if name in self.may_be_zero or getattr(type(self), name, None) == 0 else 1
                if checked < least:
                    raise SpecError(f"{self.kind}.{name}: expected a number of at least {least}, found {checked}")
                if name in self.part_counts and checked > MOST_PARTS:
                    raise SpecError(f"{self.kind}.{name}: expected a number of at most {MOST_PARTS}, found {checked}")

    def _built(self, *shape: Any) -> Any:
        """What `module_of` declares, called with the spec and with what the `build` of its role is called with."""
        module = type(self)._module
        if module is None:
            raise NotImplementedError(f"{self.kind} needs a `build`, or a module declared with @module_of({self.kind})")
        if not self.takes_prefix and shape[-1].prefix:
            raise SpecError(
                f"{self.kind} works on the map and would drop {shape[-1].prefix} prefix tokens; add them later"
            )
        return module(self, *shape)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # a value: the copy of a model may share its specs

    def replace(self, **changes: Any) -> Self:
        """A copy with the given fields changed: the way to write an ablation."""
        _check_fields(type(self), changes)
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON data. Runs of equal parts are written once, as `{"repeat": n, "of": part}`."""
        return {"kind": self.kind} | {name: _to_data(getattr(self, name)) for name in _fields(type(self))}

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: str = "spec") -> Spec:
        """The spec that `to_dict` wrote. Raises SpecError, naming the place, for anything unknown or ill-typed."""
        if "kind" not in data:
            raise SpecError(f"{where}: a part needs a 'kind', found only {shown(sorted(data))}")
        kind = data["kind"]
        if not isinstance(kind, str) or kind not in Spec._kinds:
            raise SpecError(f"{where}: unknown kind {shown(kind)}.{nearest(str(kind), Spec._kinds)}")
        cls = Spec._kinds[kind]
        values = {name: value for name, value in data.items() if name != "kind"}
        _check_fields(cls, values, where)
        hints = _hints(cls)
        missing = [
            field.name
            for field in dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
            if field.name not in values and field.default is dataclasses.MISSING
        ]
        if missing:
            raise SpecError(f"{where}: {kind} lacks {', '.join(missing)}")
        return cls(**{name: _from_data(value, hints[name], f"{where}.{name}") for name, value in values.items()})


@functools.cache
def _hints(cls: type[Spec]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _kind_of(cls: type) -> str:
    package = __name__.rpartition(".")[0]
    if cls.__module__.startswith((f"{package}.components", f"{package}.encoder", __name__)):
        return cls.__name__
    families = f"{package}.families."
    if cls.__module__.startswith(families):
        return f"{cls.__module__.removeprefix(families)}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__name__}"


@functools.cache
def _fields(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _check_fields(cls: type[Spec], values: Mapping[str, Any], where: str = "") -> None:
    known = _fields(cls)
    for name in values:
        if name not in known:
            prefix = f"{where}: " if where else ""
            raise SpecError(
                f"{prefix}{cls.kind} has no field {shown(name)}.{nearest(name, known)} It has: {', '.join(known)}"
            )


def count_parts(data: Any) -> int:
    """How many specs JSON data stands for, each `repeat` written out: nested ones multiply."""
    if isinstance(data, Mapping):
        if set(data) == {"repeat", "of"} and isinstance(data["repeat"], int):
            return max(data["repeat"], 1) * count_parts(data["of"])
        return ("kind" in data) + sum(map(count_parts, data.values()))
    return sum(map(count_parts, data)) if isinstance(data, list) else 0


def _to_data(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, tuple):
        items: list[Any] = []
        for item, run in itertools.groupby(value):
            count = len(list(run))
            if isinstance(item, Spec) and count > 1:
                items.append({"repeat": count, "of": item.to_dict()})
            else:
                items.extend([_to_data(item)] * count)
        return items
    return value


def _from_data(value: Any, hint: Any, where: str) -> Any:
    """A field's value from JSON data, or as it is in Python, checked against its annotation."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _from_union(value, typing.get_args(hint), where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise SpecError(f"{where}: {shown(value)} is not one of {typing.get_args(hint)}")
        return value
    if origin is tuple:
        return _from_list(value, typing.get_args(hint), where)
    if isinstance(hint, type) and issubclass(hint, Spec):
        if not isinstance(value, Mapping | Spec):
            raise SpecError(f"{where}: expected a {hint.kind}, found {shown(value)}")
        spec = value if isinstance(value, Spec) else Spec.from_dict(value, where)
        if not isinstance(spec, hint):
            raise SpecError(f"{where}: expected a {hint.kind}, found a {spec.kind}")
        return spec
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise SpecError(f"{where}: expected a number, found {shown(value)}") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SpecError(f"{where}: expected {hint.__name__}, found {shown(value)}")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise SpecError(f"{where}: expected a number of at most {LARGEST_NUMBER}, found {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where}: expected a finite number, found {shown(value)}")
    return value


def _from_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is not type(None):
            try:
                return _from_data(value, option, where)
            except SpecError as error:
                errors.append(str(error))
    raise SpecError(errors[0] if len(errors) == 1 else f"{where}: no option fits: {'; '.join(errors)}")


def _from_list(value: Any, hints: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise SpecError(f"{where}: expected a list, found {shown(value)}")
    if len(hints) == 2 and hints[1] is Ellipsis:
        items: list[Any] = []
        for index, item in enumerate(value):
            if isinstance(item, Mapping) and set(item) == {"repeat", "of"}:
                count = item["repeat"]
                if not isinstance(count, int) or not 1 <= count <= 10_000:
                    raise SpecError(f"{where}[{index}].repeat: expected a count from 1 to 10000, found {shown(count)}")
                items.extend([_from_data(item["of"], hints[0], f"{where}[{index}]")] * count)
            else:
                items.append(_from_data(item, hints[0], f"{where}[{index}]"))
        return tuple(items)
    if len(value) != len(hints):
        raise SpecError(f"{where}: expected {len(hints)} values, found {len(value)}")
    return tuple(
        _from_data(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(zip(value, hints, strict=True))
    )


Module = TypeVar("Module")


def module_of(spec: type[Spec], *, prefix: bool = True) -> Callable[[type[Module]], type[Module]]:
    """Declares the module that a spec builds: it is called with the spec and with what the `build` of its role takes.

    With `prefix=False` prefix tokens are refused, which a spatial operation would drop.
    """

    def declare(module: type[Module]) -> type[Module]:
        spec._module, spec.takes_prefix = module, prefix
        return module

    return declare


class Norm(Spec):
    """Normalises tokens. `build(dim)` gives a module: tokens (B, N, C) -> tokens."""

    def build(self, dim: int) -> Any:
        return self._built(dim)


class Bias(Spec):
    """Adds positions to attention scores. `build(heads, grid)` gives a module: grid -> (heads, N, N)."""

    def build(self, heads: int, grid: Grid) -> Any:
        return self._built(heads, grid)


class Transition(Spec):
    """Takes tokens to tokens of another width or grid. `build(in_dim, grid)` gives a module: (tokens, grid) -> tokens.

    `grid` is the grid before the transition. Shapes are computed from the spec alone, never probed.
    """

    def out_dim(self, in_dim: int) -> int:
        """Channels after the transition."""
        return in_dim

    def out_grid(self, grid: Grid) -> Grid:
        """Grid after the transition: unless it says otherwise, each stride that begins inside the map is a position."""
        stride = self.out_stride(1)
        return Grid(fewer(grid.height, stride), fewer(grid.width, stride), grid.prefix)

    def out_stride(self, in_stride: int) -> int:
        """Pixels of the image, along one axis, from one position to the next after the transition."""
        return in_stride

    def build(self, in_dim: int, grid: Grid) -> Any:
        return self._built(in_dim, grid)

    def build_keeping(self, dim: int, grid: Grid) -> Any:
        """As `build`, for where width and grid must stay. Raises SpecError if they do not."""
        after, stride = (self.out_dim(dim), self.out_grid(grid)), self.out_stride(1)
        if after != (dim, grid) or stride != 1:
            raise SpecError(
                f"{self.kind} changes width and grid from {(dim, grid)} to {after} at a stride of {stride}; a block "
                "keeps its shape, so put it at the entrance of a stage"
            )
        return self.build(dim, grid)


class Strided(Transition):
    """A transition to every `stride`-th position along both axes."""

    stride: int = 2

    def out_stride(self, in_stride: int) -> int:
        return in_stride * self.stride


class Around(Transition):
    """A transition whose width and grid follow from another, its `body`."""

    body: Transition

    def out_dim(self, in_dim: int) -> int:
        return self.body.out_dim(in_dim)

    def out_grid(self, grid: Grid) -> Grid:
        return self.body.out_grid(grid)

    def out_stride(self, in_stride: int) -> int:
        return self.body.out_stride(in_stride)


class Widening(Transition):
    """A transition to `dim` channels."""

    dim: int

    def out_dim(self, in_dim: int) -> int:
        return self.dim


class Halving(Widening):
    """A transition to `dim` channels at half the height and width."""

    def out_stride(self, in_stride: int) -> int:
        return 2 * in_stride


class Mixer(Transition):
    """A transition that always keeps width and grid: attention, MLP, squeeze-and-excitation, ..."""


class Position(Spec):
    """Tells tokens where they are. `build(dim, grid)` gives a module: (tokens, grid) -> tokens."""

    def build(self, dim: int, grid: Grid) -> Any:
        return self._built(dim, grid)


class Pool(Spec):
    """Takes tokens to one vector. `build(dim, grid)` gives a module: (tokens, grid) -> (B, C)."""

    def out_dim(self, in_dim: int) -> int:
        """Width of the vector."""
        return in_dim

    def build(self, dim: int, grid: Grid) -> Any:
        return self._built(dim, grid)


class Head(Spec):
    """The classifier, if there are classes. `build(dim, num_classes)` gives a module: (B, dim) -> (B, num_classes)."""

    def build(self, dim: int, num_classes: int) -> Any:
        return self._built(dim, num_classes)
