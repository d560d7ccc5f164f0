"""Training recipes: every choice of a run that is not the model or the data, read from TOML and saved with the run."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..spec import nearest
from ..zoo_path import zoo_path
from .errors import RecipeError

AUGMENTATIONS = ("none", "flip", "gentle", "standard", "trivial", "rand")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. Rates are peaks, reached after the warm-up and then decayed to zero by a cosine, step by step.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, over all processes.
        lr: peak rate of AdamW.
        weight_decay: of AdamW. One-dimensional parameters, prefix tokens and position tables are never decayed.
        layer_decay: each block's rate is this factor of the next deeper block's (1 is off; arXiv 2111.06377).
        warmup_epochs: linear warm-up, fractions allowed.
        probe_epochs: epochs of a linear probe on frozen features before fine-tuning (arXiv 2202.10054); needs
            pretrained weights to make sense. The features are computed once.
        probe_lr: peak rate of that probe.
        drop_path: stochastic depth of the deepest block.
        label_smoothing: share of the target spread over all classes.
        mixup: alpha of the Beta distribution (0 is off).
        cutmix: alpha of the Beta distribution (0 is off); with both on, each step takes one of the two.
        augment: "none"; "flip" only; "gentle": shift by up to an eighth and flip, for small images; "standard": random
            resized crop and flip; "trivial", "rand": standard plus TrivialAugment or RandAugment.
        crop_scale: smallest share of the area that a random resized crop may keep.
        flip: probability of a horizontal flip, with all but "none" (0 for digits or text).
        erasing: probability that a random rectangle is erased.
        channels: 1 trains on grey images, 3 on colour; 0 keeps the model's.
        image_size: side in pixels of the square input; 0 keeps the model's.
        ema_decay: exponential moving average of the weights (0 is off). It is the average that is evaluated and saved.
            Early in a run the decay is lowered, so that a short run has an average too.
        freeze: number of layer groups that stay frozen, counted from the input.
        grad_clip: largest norm of the gradient (0 is off).
        precision: fp32, or bf16 autocast.
        seed: order, augmentation, initial head: everything random is a function of it.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 5e-4
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    warmup_epochs: float = 1.0
    probe_epochs: int = 0
    probe_lr: float = 1e-2
    drop_path: float = 0.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    augment: str = "standard"
    crop_scale: float = 0.35
    flip: float = 0.5
    erasing: float = 0.0
    channels: int = 0
    image_size: int = 0
    ema_decay: float = 0.0
    freeze: int = 0
    grad_clip: float = 1.0
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind = type(field.default)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not kind:
                raise RecipeError(f"recipe field {field.name} must be {_KIND_NAMES[kind]}, got {value!r}")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise RecipeError(f"recipe field {name} must be between {low:g} and {high:g}, got {value:g}")
        for name, choices in (("augment", AUGMENTATIONS), ("precision", PRECISIONS), ("channels", (0, 1, 3))):
            if getattr(self, name) not in choices:
                known = ", ".join(map(str, choices))
                raise RecipeError(f"recipe field {name} must be one of {known}, got {getattr(self, name)!r}")

    def replace(self, **changes: Any) -> Recipe:
        _reject_unknown(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_toml(self) -> str:
        return "".join(f"{name} = {_toml_value(value)}\n" for name, value in self.to_dict().items())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        _reject_unknown(values)
        return cls(**values)


_KIND_NAMES = {int: "a whole number", float: "a number", str: "a text"}
_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "lr": (0, 100),
    "weight_decay": (0, 10),
    "layer_decay": (0.01, 1),
    "warmup_epochs": (0, math.inf),
    "probe_epochs": (0, math.inf),
    "probe_lr": (0, 100),
    "drop_path": (0, 0.99),
    "label_smoothing": (0, 0.99),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "crop_scale": (0.01, 1),
    "flip": (0, 1),
    "erasing": (0, 1),
    "channels": (0, 3),
    "image_size": (0, 1 << 16),
    "ema_decay": (0, 1),
    "freeze": (0, math.inf),
    "grad_clip": (0, math.inf),
    "seed": (0, 2**63 - 1),
}


def _toml_value(value: str | float) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _reject_unknown(values: dict[str, Any]) -> None:
    known = [field.name for field in fields(Recipe)]
    for name in values:
        if name not in known:
            raise RecipeError(f"a recipe has no field {name!r}.{nearest(name, known)} It has: {', '.join(known)}")


def list_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in (zoo_path() / "recipes").glob("*.toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of one that ships with the package, or by the path of a TOML file.

    The file's top level holds Recipe's fields; a table `about` may hold whatever its author wants to say (model, data,
    command, expected result) and is not read here.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = zoo_path() / "recipes" / f"{name_or_path}.toml"
        if not path.is_file():
            names = list_recipes()
            raise RecipeError(
                f"no recipe named {str(name_or_path)!r}.{nearest(str(name_or_path), names)} Shipped recipes: "
                f"{', '.join(names) or 'none'}. For a file of your own give its path, ending in .toml."
            )
    if not path.is_file():
        raise RecipeError(f"recipe file {path} not found")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not valid TOML: {error}") from None
    values.pop("about", None)
    try:
        return Recipe.from_dict(values)
    except RecipeError as error:
        raise RecipeError(f"recipe {path}: {error}") from None


def default_recipe(num_images: int, pretrained: bool = True) -> Recipe:
    """What to use when the user names no recipe: the fewer the images, the more passes and the gentler the change.

    Batches are small enough that an epoch has at least about 20 steps.
    """
    batch_size = next((size for size in (128, 64, 32, 16) if num_images >= 20 * size), 8)
    epochs = 30 if num_images < 2_000 else 20 if num_images < 20_000 else 10
    if not pretrained:
        return Recipe(epochs=3 * epochs, batch_size=batch_size, lr=1e-3 * batch_size / 128, ema_decay=0.999)
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        lr=5e-4 * batch_size / 128,
        layer_decay=0.75,
        probe_epochs=20,
        drop_path=0.1,
        ema_decay=0.99 if num_images < 2_000 else 0.999,
    )
