"""What the readers of transformers' model types share: a config's numbers, and the names of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...encoder import Model
from ...keys import Concat, KeyRules, respelled
from ...limits import LARGEST_NUMBER, MOST_PARTS, shown
from ..store import WeightsError

Config = Mapping[str, Any]
Rules = Callable[[Model], KeyRules]
# The shapes of the tensors in a weight file: a config alone does not say which model class wrote it.
Shapes = Mapping[str, tuple[int, ...]]


class UnsupportedConfigError(WeightsError):
    """A config asks for something that the components here do not compute."""


@dataclass(frozen=True)
class ModelType:
    """How the models of one `model_type` are read.

    `spec` makes a model of a config and the names in the file; size, channels and classes are set afterwards. `rules`
    is the layout of files, `in_memory` that of models of version 5 in memory, where it is another. `family` is the one
    in the zoo that holds its released sizes.
    """

    family: str
    spec: Callable[[Config, Shapes], Model]
    rules: Rules
    in_memory: Rules | None = None

    def layouts(self) -> dict[str, Rules]:
        """The layouts by name."""
        return {"transformers": self.rules} | ({"transformers-v5": self.in_memory} if self.in_memory else {})


def renamed(rules: Rules, parts: Mapping[str, str]) -> Rules:
    """The same layout with other names: `parts` of names by what takes their place, one after another."""

    def spell(name: str) -> str:
        for part, other in parts.items():
            name = name.replace(part, other)
        return name

    return lambda model: respelled(rules(model), spell)


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation(config: Config) -> str:
    """Our name of the activation in a config."""
    name = config.get("hidden_act", "gelu")
    if name not in ACTIVATIONS:
        raise UnsupportedConfigError(f"hidden_act is {shown(name)}, and only {', '.join(ACTIVATIONS)} can be built")
    return ACTIVATIONS[name]


def several(config: Config, name: str, *usual: int) -> tuple[int, ...]:
    """A number a stage."""
    return tuple(config.get(name, usual))


def require(config: Config, **expected: Any) -> None:
    """Raises UnsupportedConfigError for a field that has another value than the one that is computed here."""
    for name, value in expected.items():
        given = config.get(name, value)
        if (tuple(given) if isinstance(given, list) else given) != value:
            raise UnsupportedConfigError(f"{name} is {shown(given)}, and only {shown(value)} can be built")


def check_numbers(config: Config) -> None:
    """Raises UnsupportedConfigError for numbers beyond reason, before anything is made of them."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_numbers(value)
            continue
        given = value if isinstance(value, list) else [value]
        numbers = [each for each in given if isinstance(each, int | float)]
        counts = "depth" in name or name in ("num_hidden_layers", "num_meta3d_blocks")
        if counts and (sum(numbers) > MOST_PARTS or min(numbers, default=0) < 0):
            raise UnsupportedConfigError(
                f"{name} is {shown(value)}: expected at most {MOST_PARTS} blocks, none negative"
            )
        if any(abs(each) > LARGEST_NUMBER and isinstance(each, int) for each in numbers):
            raise UnsupportedConfigError(f"{name} is {shown(value)}: expected at most {LARGEST_NUMBER}")


def prefix(model: Model, base: str) -> str:
    """What all names but the classifiers' start with: a model without a classifier stands alone."""
    return f"{base}." if model.num_classes else ""


def query_key_value(theirs: str, ours: str) -> Concat:
    """Three layers of theirs are one of ours."""
    return Concat([f"{theirs}.{part}" for part in ("query", "key", "value")], f"{ours}.qkv")
