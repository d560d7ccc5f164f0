"""Every layout that weights of a family are read in, those of its own releases and other packages', and which it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from ..encoder import Model
from ..families import Family
from ..keys import KeyMismatchError, KeyRules, StateDict
from ..meta import without_memory
from .store import OWN_LAYOUT

CLASSIFIER = ("head.",)


class Layout(NamedTuple):
    """Whose names the tensors of a model have, and the rules for them; none for our own."""

    name: str
    rules: KeyRules | None
    spec: Model


def layouts_of(family: Family) -> dict[str, Callable[[Model], KeyRules]]:
    """The layouts by name; each gives its key rules for a model, and may have none for some."""
    # Here, since they import families that a model in timm's or our own layout does not need.
    from .efficientnet_pytorch_format import efficientnet_pytorch_layouts
    from .torchvision_format import torchvision_layouts
    from .tower_formats import tower_layouts
    from .transformers_format import transformers_layouts

    return {
        **family.layouts,
        **transformers_layouts(family.name),
        **torchvision_layouts(family.name),
        **tower_layouts(family.name),
        **efficientnet_pytorch_layouts(family.name),
    }


def possible_layouts(family: Family, spec: Model) -> Iterator[Layout]:
    """Every layout of a family, ours first, for a spec with a classifier and without."""
    variants = (spec if spec.num_classes else spec.replace(num_classes=1000), spec.replace(num_classes=0))
    for name, make in {OWN_LAYOUT: lambda variant: None, **layouts_of(family)}.items():
        for variant in variants:
            yield Layout(name, make(variant), variant)


def expected_tensors(spec: Model) -> StateDict:
    """The state dict that a model of `spec` has, without memory behind it."""
    with without_memory():
        return spec.build().state_dict()


def closest_layout(names: Collection[str], layouts: Sequence[Layout]) -> Layout:
    """The layout in whose names for its model the fewest are missing or surplus."""
    if len(layouts) == 1:
        return layouts[0]
    expected = {layout.spec: expected_tensors(layout.spec) for layout in layouts}

    def differences(layout: Layout) -> float:
        try:
            ours = expected[layout.spec]
            return len(set(names) ^ set(layout.rules.to_theirs(ours) if layout.rules else ours))
        except KeyMismatchError:
            return math.inf  # another package's layout, which has no names for what this model has

    return min(layouts, key=differences)


def converted(tensors: StateDict, rules: KeyRules | None, source: str) -> tuple[StateDict, Sequence[str]]:
    """The tensors under our names, and the keys that no rule takes."""
    if rules is None:
        return tensors, ()
    try:
        return rules.to_ours(tensors), ()
    except KeyMismatchError as error:
        if not error.untaken:
            raise KeyMismatchError(f"{source} does not fit the model: {error}") from None
        known = {key: tensor for key, tensor in tensors.items() if key not in error.untaken}
        return rules.to_ours(known), error.untaken


def left_out(tensors: StateDict, rules: KeyRules | None) -> Sequence[str]:
    """The learned tensors for which our model has no place; constants, such as indices and masks, are not told."""
    return rules.learned_and_dropped(tensors) if rules else ()


def classes_in(tensors: StateDict, spec: Model, expected: StateDict | None = None) -> int:
    """The number of classes of a checkpoint, read from its classifier."""
    for key, tensor in (expected or expected_tensors(spec)).items():
        if key.startswith(CLASSIFIER) and tensor.shape[:1] == (spec.num_classes,) and key in tensors:
            return tensors[key].shape[0]
    return spec.num_classes
