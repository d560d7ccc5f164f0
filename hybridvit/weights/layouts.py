"""Every layout that weights of a family are read in: those of its own releases, and other packages'."""

from __future__ import annotations

from collections.abc import Callable

from ..encoder import Model
from ..families import Family
from ..keys import KeyRules
from .torchvision_format import torchvision_layouts
from .tower_formats import tower_layouts
from .transformers_format import transformers_layouts


def layouts_of(family: Family) -> dict[str, Callable[[Model], KeyRules]]:
    """The layouts by name; each gives its key rules for a model, and may have none for some."""
    return {
        **family.layouts,
        **transformers_layouts(family.name),
        **torchvision_layouts(family.name),
        **tower_layouts(family.name),
    }
