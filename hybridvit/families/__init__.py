"""The families of the zoo, one file each: a size table, a function from numbers to a Model, and key rules.

A family file defines `FAMILY`. Files are found by listing this package, so adding one is adding a file. What nearly
every family file needs can be imported from here.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..encoder import Model, Stage
from ..keys import Concat, Fixed, KeyRules, Rename, Rule, Split, conv_to_linear, linear_to_conv, renames, split_heads
from ..spec import Grid, SpecError
from ..trunks import classifier

# The arguments of a family's builder, and those for each model name; and numbers, of which each stage has one.
Numbers = dict[str, Any]
Sizes = dict[str, Numbers]
PerStage = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """A family of models.

    `sizes` maps each model name to the arguments of `build`, and to `img_size`, pixels a side, and `num_classes` where
    they are not those of `classifier`: `build` takes an `img_size` only if its layers depend on it. `layouts` maps the
    name of a layout of the family's own releases ("timm", "original") to a function that gives its key rules for a
    model; `weights.layouts` knows others.
    """

    name: str
    paper: str
    build: Callable[..., Model]
    sizes: Mapping[str, Mapping[str, Any]]
    layouts: Mapping[str, Callable[[Model], KeyRules]]

    def model(self, name: str, **changes: Any) -> Model:
        """The spec of one of the family's models, or of one that differs from it in some of these numbers."""
        numbers = {**self.sizes[name], **changes}
        asked = inspect.signature(self.build).parameters
        of_model = {field: numbers[field] for field in ("img_size", "num_classes") if field in numbers}
        model = self.build(**{key: number for key, number in numbers.items() if key in asked or key not in of_model})
        if "img_size" in of_model:
            of_model["img_size"] = (of_model["img_size"],) * 2
        return model.replace(**of_model)


def family_names() -> list[str]:
    """The names of all families, found without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_family(name: str) -> Family:
    """Imports the family's file."""
    return importlib.import_module(f"{__name__}.{name}").FAMILY
