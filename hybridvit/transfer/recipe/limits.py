"""What the fields of a recipe may be."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ...spec import nearest
from ..errors import RecipeError

if TYPE_CHECKING:
    from .fields import Recipe

CHOICES: dict[str, tuple[str | int, ...]] = {
    "method": ("full", "probe", "lora", "ssf", "knn"),
    "batch_norm": ("auto", "train", "freeze", "statistics"),
    "loss": ("auto", "ce", "bce", "asymmetric"),
    "balance": ("none", "weights", "sampling"),
    "distill": ("soft", "hard"),
    "augment": ("none", "flip", "gentle", "standard", "trivial", "rand"),
    "precision": ("fp32", "bf16", "fp16"),
}

LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "lr": (0, 100),
    "weight_decay": (0, 10),
    "layer_decay": (0.01, 1),
    "warmup_epochs": (0, math.inf),
    "probe_epochs": (0, math.inf),
    "probe_decay": (0, 1e9),
    "lora_rank": (1, 1024),
    "lora_alpha": (0, 1 << 16),
    "patience": (0, math.inf),
    "finish_size": (0, 1 << 16),
    "finish_epochs": (0, math.inf),
    "distill_weight": (0, 1),
    "distill_temperature": (0.01, 1000),
    "drop_path": (0, 0.99),
    "label_smoothing": (0, 0.99),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "crop_scale": (0.01, 1),
    "flip": (0, 1),
    "erasing": (0, 1),
    "channels": (0, 1 << 10),
    "image_size": (0, 1 << 16),
    "ema_decay": (0, 1),
    "freeze": (0, math.inf),
    "grad_clip": (0, math.inf),
    "accumulate": (1, math.inf),
    "seed": (0, 2**63 - 1),
}

_KIND_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def check(recipe: Recipe) -> None:
    """Raises RecipeError for a value of the wrong kind, outside its limits or not among its choices."""
    for field in fields(recipe):
        value, kind = getattr(recipe, field.name), type(field.default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(recipe, field.name, float(value))
        elif type(value) is not kind:
            raise RecipeError(f"recipe field {field.name} must be {_KIND_NAMES[kind]}, got {value!r}")
    for name, (low, high) in LIMITS.items():
        value = getattr(recipe, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise RecipeError(f"recipe field {name} must be between {low:g} and {high:g}, got {value:g}")
    for name, choices in CHOICES.items():
        value = getattr(recipe, name)
        if value not in choices:
            known = ", ".join(map(str, choices))
            raise RecipeError(f"recipe field {name} must be one of {known}, got {value!r}")
    if bool(recipe.finish_epochs) != bool(recipe.finish_size):
        raise RecipeError("recipe fields finish_size and finish_epochs need each other: set both, or neither")


def reject_unknown(values: dict[str, Any], known: list[str]) -> None:
    """Raises RecipeError for a name that is no field."""
    for name in values:
        if name not in known:
            raise RecipeError(f"a recipe has no field {name!r}.{nearest(name, known)} It has: {', '.join(known)}")
