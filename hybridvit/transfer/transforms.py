"""From an image to a model's input.

Two halves: the geometry of one image, to uint8 pixels (C, H, W), in `geometry.py`; and the arithmetic of a batch, in
torch, on the model's device, in `arithmetic.py`. Training, evaluation and prediction share the second half, and the
last two share both. Images of several bands are float tensors (C, H, W) from the start, and go the same way.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torchvision.transforms import InterpolationMode, v2

from ..preprocess import Preprocess
from .arithmetic import Augment, Erase, Normalise
from .geometry import EvalGeometry, train_geometry

if TYPE_CHECKING:
    from ..encoder import Encoder
    from .recipe import Recipe


class PreprocessWarning(UserWarning):
    """Images are prepared in another way than the weights were trained with."""


class Transform(v2.Compose):
    """Steps from a Pillow image to a model's input, and the preprocessing that they do.

    `train_time` says that they augment.
    """

    def __init__(self, preprocess: Preprocess, steps: Sequence[nn.Module], train: bool) -> None:
        super().__init__(steps)
        self.preprocess, self.train_time = preprocess, train


def transforms(model: Encoder | Preprocess, train: bool = False, recipe: Recipe | None = None) -> Transform:
    """Pillow image -> normalised float tensor (C, H, W), as the weights of the model expect it.

    For a model of neither 1 nor 3 channels also a float tensor of its bands, in 0..1.

    With train=True the recipe's augmentation is applied (its defaults without one); its random numbers come from
    torch's global generator.
    """
    preprocess = model if isinstance(model, Preprocess) else preprocess_of(model)
    if not train:
        return Transform(preprocess, [EvalGeometry(preprocess), v2.PILToTensor(), Normalise(preprocess)], train)
    from .recipe import Recipe

    recipe = recipe or Recipe()
    steps = [train_geometry(preprocess, recipe), v2.PILToTensor(), Augment.of(recipe)]
    return Transform(preprocess, [*steps, Normalise(preprocess), Erase(recipe)], train)


def warn_of_mismatch(model: Encoder, transform: Callable[..., Any]) -> None:
    """Warns if a transform, ours or one made of torchvision's, prepares images otherwise than the weights expect."""
    if model.preprocess is None:
        return
    theirs, ours = _facts_of(transform), _facts_of(model.preprocess)
    if any(name in theirs and theirs[name] != ours[name] for name in ours):
        told = (", ".join(f"{name} {facts.get(name, 'unknown')}" for name in ours) for facts in (theirs, ours))
        warnings.warn(
            "the transform prepares images otherwise than the weights expect: {}; the weights: {}. "
            "hv.transforms(model) makes one that fits".format(*told),
            PreprocessWarning,
            stacklevel=3,
        )


def _facts_of(transform: Any) -> dict[str, Any]:
    """Mean, std, size and interpolation of a transform or a preprocessing, as far as they can be seen."""
    own = transform if isinstance(transform, Preprocess) else getattr(transform, "preprocess", None)
    if isinstance(own, Preprocess):
        size = "x".join(map(str, own.input_size))
        return {"mean": own.mean, "std": own.std, "size": size, "interpolation": own.interpolation}
    facts: dict[str, Any] = {}
    for step in getattr(transform, "transforms", [transform]):
        if getattr(step, "mean", None) is not None and getattr(step, "std", None) is not None:
            facts |= {name: tuple(round(float(each), 6) for each in getattr(step, name)) for name in ("mean", "std")}
        size = getattr(step, "size", None)
        if isinstance(size, int) or (isinstance(size, Sequence) and len(size) in (1, 2)):
            height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
            facts["size"] = f"{height}x{width}"
        mode = getattr(step, "interpolation", None)  # torchvision has an enumeration, or in newer versions its text
        mode = mode.value if isinstance(mode, InterpolationMode) else mode
        if isinstance(mode, str):
            facts["interpolation"] = mode
    return facts


def preprocess_of(model: Encoder) -> Preprocess:
    """The preprocessing that belongs to the model's weights, or a plain one for a model without weights."""
    if model.preprocess is not None:
        return model.preprocess
    return default_preprocess(model.spec.img_size, model.spec.in_chans)


def default_preprocess(input_size: tuple[int, int], channels: int) -> Preprocess:
    """For a model trained from scratch: pixels in -1..1, and no border cut from images that are small anyway."""
    return Preprocess(
        input_size=input_size,
        crop_pct=1.0 if min(input_size) <= 64 else 0.875,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
