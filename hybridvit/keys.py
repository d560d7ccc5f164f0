"""Two-way key rules between our state dicts and those of other packages.

A rule pairs a place of theirs with a place of ours. Places are dotted prefixes of keys with counters in braces:
`blocks.{b}.attn` and `stages.0.blocks.{b}.branches.0.mixer` pair every tensor below one with the tensor of the same
name below the other. `{b+1}` stands for the counter plus one. The first rule that fits a key decides.
"""

from __future__ import annotations

import copy
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


class KeyMismatchError(ValueError):
    """Keys or shapes of a checkpoint do not fit a model; the message lists every one of them.

    `untaken` are the keys that no rule of a layout takes, where that is what went wrong.
    """

    def __init__(self, message: str, untaken: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.untaken = tuple(untaken)


# A run of digits, and in a template also a counter.
_NUMBER = re.compile(r"([0-9]+)")
_NUMBER_OR_COUNTER = re.compile(r"([0-9]+|\{\w+(?:\+\d+)?\})")


@functools.lru_cache(maxsize=1 << 14)
def _pieces(key: str) -> tuple[list[str], list[str]]:
    """The texts and the numbers of a key, which takes turns with them and begins and ends with a text."""
    pieces = _NUMBER.split(key)
    return pieces[::2], pieces[1::2]


class Place:
    """A dotted prefix with counters: matches keys, and gives the key back for known counters.

    Texts and numbers are compared one by one: to compile a regular expression for each place of a table takes longer
    than to convert a checkpoint by it.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        pieces = _NUMBER_OR_COUNTER.split(template)
        self._texts, self._outline = pieces[::2], "#".join(pieces[::2])
        self._numbers = [_counter(piece) if piece.startswith("{") else piece for piece in pieces[1::2]]

    def may_match(self, outline: str) -> bool:
        """Whether keys of an outline can lie here: most places are ruled out so, for many keys at once."""
        return outline == self._outline or outline.startswith(self._outline + ".")

    def match(self, key: str) -> tuple[dict[str, int], str] | None:
        """Counters and the rest of the key (with its dot), or None."""
        texts, numbers = _pieces(key)
        count, last = len(self._numbers), self._texts[-1]
        if texts[:count] != self._texts[:count] or len(texts) <= count or not texts[count].startswith(last):
            return None
        counters: dict[str, int] = {}
        for own, number in zip(self._numbers, numbers, strict=False):
            if isinstance(own, str):
                if own != number:
                    return None
                continue
            if number.startswith("0") and number != "0":
                return None
            name, shift = own
            value = int(number) - shift
            if value < 0 or counters.setdefault(name, value) != value:
                return None
        rest = _joined([texts[count][len(last) :], *texts[count + 1 :]], numbers[count:])
        if rest and not (rest.startswith(".") and rest[1:]):
            return None
        return counters, rest

    def key(self, counters: Mapping[str, int], rest: str) -> str:
        """The key at this place for the counters, `rest` appended."""
        numbers = [own if isinstance(own, str) else str(counters[own[0]] + own[1]) for own in self._numbers]
        return _joined(self._texts, numbers) + rest


def _joined(texts: list[str], numbers: list[str]) -> str:
    return "".join(itertools.chain(*zip(texts, [*numbers, ""], strict=True)))


def _counter(piece: str) -> tuple[str, int]:
    """Name and shift of `{name}` or `{name+shift}`."""
    name, _, shift = piece[1:-1].partition("+")
    return name, int(shift or 0)


def _outline(key: str) -> str:
    """A key with a # for its numbers."""
    return "#".join(_pieces(key)[0])


class Rule(Protocol):
    """One row of a table: it moves the tensors of its places in either direction."""

    theirs: tuple[Place, ...]
    ours: tuple[Place, ...]

    def convert(self, tensors: list[Tensor], to_ours: bool) -> list[Tensor]:
        """The tensors of one side, in the order of its places -> those of the other side."""
        ...


class Rename:
    """The same tensor under another name, reshaped or permuted by a pair of inverse functions if given."""

    def __init__(
        self,
        theirs: str,
        ours: str,
        to_ours: Callable[[Tensor], Tensor] | None = None,
        to_theirs: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.theirs, self.ours = (Place(theirs),), (Place(ours),)
        self._to_ours, self._to_theirs = to_ours, to_theirs

    def convert(self, tensors: list[Tensor], to_ours: bool) -> list[Tensor]:
        change = self._to_ours if to_ours else self._to_theirs
        return [change(tensor) for tensor in tensors] if change else tensors


class Concat:
    """Several tensors of theirs, one after another along `dim`, are one of ours. `sizes` None: equal parts."""

    def __init__(self, theirs: Sequence[str], ours: str, dim: int = 0, sizes: Sequence[int] | None = None) -> None:
        self.theirs, self.ours = tuple(map(Place, theirs)), (Place(ours),)
        self._dim, self._sizes = dim, sizes

    def convert(self, tensors: list[Tensor], to_ours: bool) -> list[Tensor]:
        if to_ours:
            return [torch.cat(tensors, dim=self._dim)]
        sizes = self._sizes or [tensors[0].shape[self._dim] // len(self.theirs)] * len(self.theirs)
        return [part.contiguous() for part in tensors[0].split(list(sizes), dim=self._dim)]


class Split:
    """One tensor of theirs holds several of ours, one after another along `dim`. `sizes` None: equal parts."""

    def __init__(self, theirs: str, ours: Sequence[str], dim: int = 0, sizes: Sequence[int] | None = None) -> None:
        self.theirs, self.ours = (Place(theirs),), tuple(map(Place, ours))
        self._dim, self._sizes = dim, sizes

    def convert(self, tensors: list[Tensor], to_ours: bool) -> list[Tensor]:
        if not to_ours:
            return [torch.cat(tensors, dim=self._dim)]
        sizes = self._sizes or [tensors[0].shape[self._dim] // len(self.ours)] * len(self.ours)
        return [part.contiguous() for part in tensors[0].split(list(sizes), dim=self._dim)]


class Fixed:
    """A tensor of theirs that the architecture determines, such as an index: checked on entry, made on the way out."""

    def __init__(self, theirs: str, make: Callable[[], Tensor]) -> None:
        self.theirs, self.ours = (Place(theirs),), ()
        self._make = make

    def convert(self, tensors: list[Tensor], to_ours: bool) -> list[Tensor]:
        made = self._make()
        if not to_ours:
            return [made]
        given = tensors[0]
        if given.shape != made.shape or not (given.is_meta or torch.equal(given, made.to(given.dtype))):
            raise KeyMismatchError(f"{self.theirs[0].template} differs from what the architecture implies")
        return []


def conv_to_linear(theirs: str, ours: str) -> Rename:
    """A 1x1 convolution of theirs is a linear layer of ours. Biases keep their shape."""
    return Rename(
        theirs,
        ours,
        lambda tensor: tensor.flatten(1) if tensor.ndim == 4 else tensor,
        lambda tensor: tensor[:, :, None, None] if tensor.ndim == 2 else tensor,
    )


def linear_to_conv(theirs: str, ours: str) -> Rename:
    """A linear layer of theirs is a 1x1 convolution of ours. Biases keep their shape."""
    return Rename(
        theirs,
        ours,
        lambda tensor: tensor[:, :, None, None] if tensor.ndim == 2 else tensor,
        lambda tensor: tensor.flatten(1) if tensor.ndim == 4 else tensor,
    )


def split_heads(theirs: str, ours: str, width: int, conv: bool = True) -> Rename:
    """Queries, keys and values of theirs lie head by head, of ours apart; `width` is that of a head.

    Theirs is a 1x1 convolution, or else a linear layer, with channels (head, 3, width), ours a linear layer with
    channels (3, head, width).
    """

    def to_ours(tensor: Tensor) -> Tensor:
        return tensor.reshape(-1, 3, width, *tensor.shape[1:2]).transpose(0, 1).reshape(tensor.shape[:2])

    def to_theirs(tensor: Tensor) -> Tensor:
        kernel = (1, 1) if conv and tensor.ndim == 2 else ()
        return tensor.reshape(3, -1, width, *tensor.shape[1:]).transpose(0, 1).reshape(*tensor.shape, *kernel)

    return Rename(theirs, ours, to_ours, to_theirs)


def renames(theirs: str, ours: str, parts: str, make: Callable[[str, str], Rule] = Rename) -> list[Rule]:
    """A rule for each part of a place: `parts` are pairs "their=our their=our" below `theirs` and below `ours`.

    A part with one name is called so by both, and either place may be empty. `make` makes the rule of two places.
    """

    def below(place: str, part: str) -> str:
        return ".".join(filter(None, (place, part)))

    named = (part.partition("=") for part in parts.split())
    return [make(below(theirs, their), below(ours, our if apart else their)) for their, apart, our in named]


class KeyRules:
    """A table of rules: converts whole state dicts both ways, bit for bit, and leaves nothing over.

    It is given rules and lists of them. Every key of theirs must be taken by a rule or lie at one of the `dropped`
    places; a dropped tensor is lost. So is one of the `constants`, which follow from the architecture.
    """

    def __init__(
        self, *rules: Rule | Iterable[Rule], dropped: Iterable[str] = (), constants: Iterable[str] = ()
    ) -> None:
        self.rules = [rule for part in rules for rule in (part if isinstance(part, Iterable) else (part,))]
        self.dropped, self.constants = ([Place(place) for place in places] for places in (dropped, constants))

    def to_ours(self, theirs: Mapping[str, Tensor]) -> StateDict:
        """Converts a foreign state dict. Raises KeyMismatchError listing all keys that no rule takes."""
        lost = [*self.dropped, *self.constants]
        kept = {key: t for key, t in theirs.items() if not any(place.match(key) for place in lost)}
        return self._convert(kept, to_ours=True)

    def learned_and_dropped(self, theirs: Mapping[str, Tensor]) -> list[str]:
        """The keys of what a training has made, and `to_ours` drops."""
        places = self.dropped
        return [key for key, t in theirs.items() if t.is_floating_point() and any(place.match(key) for place in places)]

    def to_theirs(self, ours: Mapping[str, Tensor]) -> StateDict:
        """Converts a state dict of ours. Raises KeyMismatchError listing all keys that no rule takes."""
        converted = self._convert(ours, to_ours=False)
        for rule in self.rules:
            if not rule.ours:
                converted |= {rule.theirs[0].template: rule.convert([], to_ours=False)[0]}
        return converted

    def _convert(self, source: Mapping[str, Tensor], to_ours: bool) -> StateDict:
        result: StateDict = {}
        taken: set[str] = set()
        leftover: list[str] = []
        sides = [(rule, *((rule.theirs, rule.ours) if to_ours else (rule.ours, rule.theirs))) for rule in self.rules]

        @functools.cache
        def sides_for(outline: str) -> list[tuple[Rule, tuple[Place, ...], tuple[Place, ...]]]:
            return [side for side in sides if any(place.may_match(outline) for place in side[1])]

        for key in source:
            if key in taken:
                continue
            for rule, froms, tos in sides_for(_outline(key)):
                match = next((m for place in froms if (m := place.match(key))), None)
                if match is None:
                    continue
                keys = [place.key(*match) for place in froms] if len(froms) > 1 else [key]
                if any(k not in source for k in keys):
                    continue
                taken.update(keys)
                made = [place.key(*match) for place in tos]
                result |= dict(zip(made, _converted(rule, {k: source[k] for k in keys}, to_ours), strict=True))
                break
            else:
                leftover.append(key)
        if leftover:
            raise KeyMismatchError(f"{len(leftover)} keys that no rule takes: {', '.join(leftover)}", leftover)
        return result


def _converted(rule: Rule, tensors: Mapping[str, Tensor], to_ours: bool) -> list[Tensor]:
    """What a rule makes of tensors, whose shapes may be anything."""
    try:
        return rule.convert(list(tensors.values()), to_ours)
    except KeyMismatchError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in tensors.items())
        raise KeyMismatchError(f"these shapes are not those of the layout: {shapes}") from error


def respelled(rules: KeyRules, spell: Callable[[str], str]) -> KeyRules:
    """The same table for a package that has other names for the same places: `spell` turns theirs into its own."""

    def other(rule: Rule) -> Rule:
        twin = copy.copy(rule)
        twin.theirs = tuple(Place(spell(place.template)) for place in rule.theirs)
        return twin

    dropped, constants = ([spell(place.template) for place in places] for places in (rules.dropped, rules.constants))
    return KeyRules(map(other, rules.rules), dropped=dropped, constants=constants)


def check_keys(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    excused: tuple[str, ...] = (),
    source: str = "checkpoint",
    untaken: Sequence[str] = (),
) -> None:
    """Raises KeyMismatchError listing every missing and surplus key and every shape or kind of number that differs.

    `excused` are prefixes that may be missing, surplus or of another shape: the classifier, when its classes change.
    `untaken` are surplus keys under the names that they have in the file.
    """
    strict = [key for key in expected if not key.startswith(excused)] if excused else list(expected)
    missing = [key for key in strict if key not in found]
    surplus = [key for key in found if key not in expected and not (excused and key.startswith(excused))]
    surplus += untaken
    shapes = [
        f"{key} is {tuple(found[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in strict
        if key in found and found[key].shape != expected[key].shape
    ]
    kinds = [
        f"{key} holds {str(found[key].dtype).removeprefix('torch.')}, expected floating-point numbers"
        for key in strict
        if key in found and expected[key].is_floating_point() and not found[key].is_floating_point()
    ]
    problems = [
        f"{len(items)} {what}: {', '.join(items)}"
        for what, items in (
            ("missing", missing),
            ("surplus", surplus),
            ("of another shape", shapes),
            ("of another kind", kinds),
        )
        if items
    ]
    if problems:
        raise KeyMismatchError(f"{source} does not fit the model. " + ". ".join(problems))
