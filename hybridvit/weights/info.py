"""What there is and what it is: `list_models` and `model_info`."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from ..registry import group_of, index, model_names, model_spec, tags
from .entries import WeightEntry, entries_of, find_entry

if TYPE_CHECKING:
    from ..encoder import Model
    from ..inspect.outline import StageOutline


def list_models(pattern: str = "*", *, pretrained: bool = False, family: str | None = None) -> list[str]:
    """Names that match a shell pattern; with `pretrained` those of all weights, as `arch.tag`. Imports no torch."""
    if not pretrained:
        return model_names(pattern, family)
    architectures = set(model_names("*", family))
    return [
        f"{architecture}.{tag}"
        for architecture, of_it in tags().items()
        for tag in of_it
        if architecture in architectures
        and (fnmatch.fnmatchcase(architecture, pattern) or fnmatch.fnmatchcase(f"{architecture}.{tag}", pattern))
    ]


@dataclass(frozen=True)
class ModelInfo:
    """A model of the zoo. params: number of parameters; flops: of one image at (height, width) `img_size`.

    A multiply-add is two flops. `description` says what is special about the family, in paragraphs. `features` are the
    (channels, stride) of each map of `model.features`; `stages` what the model is made of; `weights` the released
    checkpoints, the default first.
    """

    name: str
    family: str
    group: str
    description: tuple[str, ...]
    paper: str
    params: int
    flops: int
    img_size: tuple[int, int]
    num_features: int
    features: tuple[tuple[int, int], ...]
    stages: tuple[StageOutline, ...]
    weights: tuple[WeightEntry, ...]
    spec: Model

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON data; the spec as `Spec.to_dict` writes it."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        stages, weights = ([asdict(each) for each in facts[name]] for name in ("stages", "weights"))
        return facts | {"stages": stages, "weights": weights, "spec": self.spec.to_dict()}


def model_info(name: str) -> ModelInfo:
    """Facts about a model, computed from its spec on the meta device; of `arch.tag` as those weights make it.

    Raises UnknownNameError offering the nearest.
    """
    from ..inspect.costs import cost
    from ..inspect.outline import outline
    from ..meta import without_memory

    architecture, _, tag = name.partition(".")
    weights = (find_entry(name),) if tag else tuple(entries_of(architecture))
    released = model_spec(architecture)
    spec = spec_of_weights(weights[0]) if tag else released
    with without_memory():
        model = spec.build()
    entry = index()[architecture]
    params, flops = (entry.params, entry.flops) if spec == released else cost(spec)
    return ModelInfo(
        name=name,
        family=entry.family,
        group=group_of(entry.family),
        description=family_description(entry.family),
        paper=entry.paper,
        params=params,
        flops=flops,
        img_size=spec.img_size,
        num_features=model.num_features,
        features=tuple((feature.channels, feature.stride) for feature in model.feature_info),
        stages=outline(spec),
        weights=weights,
        spec=spec,
    )


def spec_of_weights(entry: WeightEntry) -> Model:
    """The spec that a checkpoint makes of its architecture's: its classes, its channels and its size."""
    released = model_spec(entry.architecture)
    if entry.donor:
        return released.replace(in_chans=entry.in_chans)
    size = entry.preprocess.input_size
    return released.replace(num_classes=entry.num_classes, in_chans=entry.in_chans, img_size=size)


def figures(told: Mapping[str, Any]) -> str:
    """Reported or measured accuracies of a weight entry in words."""
    names = {"top1": "top-1", "top5": "top-5"}
    at = f" at {told['img_size']}" if "img_size" in told else ""
    return ", ".join(f"{name} {told[key]:.2f}%" for key, name in names.items() if key in told) + at


def family_description(family: str) -> tuple[str, ...]:
    """What a family is and what is special about it: the paragraphs at the top of its file."""
    module = importlib.import_module(f"..families.{family}", __package__)
    return tuple(paragraph.replace("\n", " ") for paragraph in (inspect.getdoc(module) or "").split("\n\n"))
