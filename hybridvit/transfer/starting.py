"""What a run starts from: the processes, and a model with a head for the classes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapt import without_results
from ..weights.resolve import weight_path
from ..weights.sources import DIRECTORY, HUB
from .device import torch_device

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..encoder import Encoder
    from .data import Data
    from .recipe import Recipe


def accelerator_for(device: str | None) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    if device not in (None, "cpu", "cuda", "mps"):
        raise ValueError(
            f"device must be cpu or cuda, or mps on a Mac, got {device!r}; CUDA_VISIBLE_DEVICES selects a GPU"
        )
    torch_device(device)
    # Precision and accumulation are the recipe's, whatever `accelerate launch` was told.
    plugin = GradientAccumulationPlugin(num_steps=1)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", gradient_accumulation_plugin=plugin)
    if device in ("cuda", "mps") and accelerator.device.type != device:
        raise ValueError(
            f"accelerate keeps the device that this process used first, {accelerator.device.type}; use a new process "
            f"for {device}"
        )
    return accelerator


def require_known(name: str, pretrained: bool) -> None:
    """An unknown model should be found before minutes are spent on reading images."""
    from ..registry import model_spec
    from ..weights.entries import entries_of, find_entry

    if ":" in name or weight_path(name):  # a Hub, a directory or a file, which create_model asks
        return
    if "." in name:
        find_entry(name)
        return
    model_spec(name)
    if pretrained and not entries_of(name):
        raise ValueError(
            f"{name} has no released weights; train it from scratch with pretrained=False (--no-pretrained), or take a "
            "model of `hybridvit list --pretrained`"
        )


def adapted(model: str | Encoder, pretrained: bool, classes: tuple[str, ...], recipe: Recipe) -> Encoder:
    """The model with a head for the classes, and the recipe's channels and image size.

    A head is kept if it is for the same classes, in the same order.
    """
    import hybridvit
    from hybridvit import adapt
    from hybridvit.weights.sources import PartialWeightsWarning

    if isinstance(model, str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PartialWeightsWarning)  # the rest is about to be trained
            model = hybridvit.create_model(
                model,
                pretrained=pretrained,
                num_classes=None if pretrained else len(classes),
                in_chans=recipe.channels or None,
                img_size=recipe.image_size or None,
            )
    elif recipe.channels and model.spec.in_chans != recipe.channels:
        model = adapt.with_in_chans(model, recipe.channels)
    if recipe.image_size and model.spec.img_size != (recipe.image_size, recipe.image_size):
        model = adapt.with_img_size(model, recipe.image_size)
    same_classes = model.spec.num_classes == len(classes) and model.labels in (None, classes)
    return model if same_classes else adapt.with_num_classes(model, len(classes))


def origin_of(model: str | Encoder, pretrained: bool, built: Encoder, recipe: Recipe, data: Data) -> dict[str, Any]:
    """What is saved with the weights about where they come from; a name, never a path of this machine."""
    origin = without_results(built.origin) or {}
    for name in ("source", "calibration", "distilled_from"):
        origin.pop(name, None)
    if isinstance(model, str) and pretrained:
        origin["finetuned_from"] = without_path(model)
        if model.startswith(HUB):
            origin["base_model"] = model.removeprefix(HUB).partition("@")[0]
    elif isinstance(model, str):
        origin.pop("finetuned_from", None)
    return origin | {"recipe": recipe.to_dict(), "images": len(data.train)}


def without_path(model: str | Path) -> str:
    """What to call a model: its name, or that of its file or directory."""
    name = str(model)
    path = weight_path(name) or (Path(name.removeprefix(DIRECTORY)) if name.startswith(DIRECTORY) else None)
    return path.name if path else name
