"""A repository in transformers' format: a config's numbers as a spec of ours, and what belongs to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...encoder import Model
from ...families import load_family
from ...keys import KeyRules, Rename
from ...limits import shown
from ...spec import nearest
from ..foreign import Foreign
from . import MODEL_TYPES
from .config import Config, Shapes, UnsupportedConfigError, check_numbers
from .processor import read_processor

if TYPE_CHECKING:
    from ..sources import Files

# The classifiers of the model classes that can be read; a file with none of them gives embeddings.
CLASSIFIERS = ("classifier.weight", "cls_classifier.weight", "classifier.linear.weight", "head.weight")

# Of the types whose processors reverse channels.
FIRST_KERNEL = "stages.0.enter.conv.weight"


def from_transformers(config: Config, files: Files, shapes: Shapes) -> Foreign:
    """A repository in transformers' format: `model_type` and its numbers, with a preprocessor_config.json beside it.

    `shapes` are those of the tensors in its weight file: the config alone does not say whether there is a classifier.
    """
    kind = config["model_type"]
    if kind not in MODEL_TYPES:
        raise UnsupportedConfigError(
            f"{files.where} is a transformers model of type {shown(kind)}.{nearest(str(kind), MODEL_TYPES)} "
            f"Types that can be read: {', '.join(MODEL_TYPES)}"
        )
    reader = MODEL_TYPES[kind]
    try:
        check_numbers(config)
        read = reader.spec(config, shapes)
    except UnsupportedConfigError as error:
        raise UnsupportedConfigError(f"{files.where}, a transformers model of type {kind}: {error}") from None
    size = config.get("image_size", read.img_size)
    spec = read.replace(
        img_size=(size, size) if isinstance(size, int) else tuple(size),
        in_chans=config.get("num_channels", 3),
        num_classes=next((shapes[key][0] for key in CLASSIFIERS if key in shapes), 0),
    )
    processor, layouts = read_processor(files, spec), {name: make(spec) for name, make in reader.layouts().items()}
    if processor and processor.reverses:
        layouts = {name: _reversed(rules) for name, rules in layouts.items()}
    return Foreign(
        architecture=_name_of(spec, reader.family),
        spec=spec,
        rules=layouts,
        preprocess=processor.preprocess if processor else None,
        labels=_labels(config, spec.num_classes),
        licence=None,
    )


def _reversed(rules: KeyRules) -> KeyRules:
    """The same layout for weights that see blue, green and red: here their first kernel takes red, green and blue."""

    def turned(kernel: Tensor) -> Tensor:
        return kernel.flip(1)

    theirs = next(iter(rules.to_theirs({FIRST_KERNEL: torch.empty(0)})))
    dropped, constants = ([each.template for each in places] for places in (rules.dropped, rules.constants))
    return KeyRules(Rename(theirs, FIRST_KERNEL, turned, turned), rules.rules, dropped=dropped, constants=constants)


def _name_of(spec: Model, family: str) -> str | None:
    """The model of the zoo that this is but for size, channels and classes; of its own size if there is one."""
    sizes = load_family(family).sizes
    released = {name: load_family(family).model(name) for name in sizes}
    changes = {"in_chans": spec.in_chans, "num_classes": spec.num_classes, "img_size": spec.img_size}
    built = _as_built(spec.to_dict())
    same = [name for name, of in released.items() if _as_built(of.replace(**changes).to_dict()) == built]
    return min(same, key=lambda name: released[name].img_size != spec.img_size, default=None)


def _as_built(data: Any) -> Any:
    """A spec's data without what a config gives in its own way: epsilons, and what layer scales start from."""
    if isinstance(data, Mapping):
        plain = {name: _as_built(value) for name, value in data.items() if name != "eps"}
        return plain | ({"layer_scale": True} if plain.get("layer_scale") else {})
    return [_as_built(each) for each in data] if isinstance(data, list | tuple) else data


def _labels(config: Config, num_classes: int) -> tuple[str, ...] | None:
    """Names of the classes; transformers calls them LABEL_0, LABEL_1, ... where it has none."""
    names = config.get("id2label") or {}
    labels = tuple(str(names[key]) for key in sorted(names, key=int))
    placeholders = all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return None if placeholders or len(labels) != num_classes else labels
