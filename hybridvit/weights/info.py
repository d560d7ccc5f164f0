"""What there is and what it is: `list_models` and `model_info`."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import model_names
from .entries import WeightEntry, entries, entries_of, find_entry

if TYPE_CHECKING:
    from ..encoder import Model


def list_models(pattern: str = "*", *, pretrained: bool = False, family: str | None = None) -> list[str]:
    """Names that match a shell pattern; with `pretrained` those of all weights, as `arch.tag`. Imports no torch."""
    if not pretrained:
        return model_names(pattern, family)
    architectures = set(model_names("*", family))
    return [
        name
        for name, entry in entries().items()
        if entry.architecture in architectures
        and (fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(entry.architecture, pattern))
    ]


@dataclass(frozen=True)
class ModelInfo:
    """A model of the zoo. params: number of parameters; flops: of one image at (height, width) `img_size`.

    `features` are the (channels, stride) of each map of `model.features`; `weights` the released checkpoints, the
    default first.
    """

    name: str
    family: str
    paper: str
    params: int
    flops: int
    img_size: tuple[int, int]
    num_features: int
    features: tuple[tuple[int, int], ...]
    weights: tuple[WeightEntry, ...]
    spec: Model


def model_info(name: str) -> ModelInfo:
    """Facts about a model, computed from its spec on the meta device. Raises UnknownNameError offering the nearest."""
    import torch

    from ..inspect.costs import flops, params
    from ..registry import index, model_spec

    architecture, _, tag = name.partition(".")
    spec = model_spec(architecture)
    weights = (find_entry(name),) if tag else tuple(entries_of(architecture))
    with torch.device("meta"):
        model = spec.build()
    entry = index()[architecture]
    return ModelInfo(
        name=name,
        family=entry.family,
        paper=entry.paper,
        params=params(spec),
        flops=flops(spec),
        img_size=spec.img_size,
        num_features=model.num_features,
        features=tuple((feature.channels, feature.stride) for feature in model.feature_info),
        weights=weights,
        spec=spec,
    )
