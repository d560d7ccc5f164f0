"""Repositories of other packages, and how timm's `config.json` becomes a spec of ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..adapt import in_channels
from ..components.pools import AttentionPool, TokenPool
from ..keys import KeyRules
from ..limits import shown
from ..preprocess import Preprocess
from ..registry import UnknownNameError, family_of, index, model_spec
from ..spec import nearest
from .errors import WeightsError
from .sources import WeightsWarning
from .timm_format import built_for, differs

if TYPE_CHECKING:
    from ..encoder import Model

# What timm lets a caller pass that changes training only.
TRAINING_ARGUMENTS = ("drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate", "weight_init")
# What timm needs to be told to take any size; ours always does.
SIZE_ARGUMENTS = ("dynamic_img_size", "dynamic_img_pad", "strict_img_size")
# timm's names of pools; that of the others is "avg".
POOLS = {TokenPool.kind: "token", AttentionPool.kind: "map"}


@dataclass(frozen=True)
class Foreign:
    """A model of another package: our spec for it, the layouts its tensors may have, and what belongs to it.

    `architecture` is its name in the zoo, if it is there.
    """

    architecture: str | None
    spec: Model
    rules: Mapping[str, KeyRules]
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    licence: str | None


def from_timm(config: Mapping[str, Any], where: str) -> Foreign:
    """A repository in timm's format: top-level `architecture`, `pretrained_cfg`, `model_args`."""
    architecture, given = config["architecture"], config.get("pretrained_cfg", config)
    if architecture not in index():
        raise UnknownNameError(
            f"{where} holds timm's {shown(architecture)}, which is not in the zoo.{nearest(architecture, index())}"
        )
    spec = model_spec(architecture)
    changes: dict[str, Any] = {"num_classes": config.get("num_classes", given.get("num_classes", spec.num_classes))}
    input_size = given.get("input_size")
    if input_size:
        changes["in_chans"] = input_size[0]
        if given.get("fixed_input_size"):
            changes["img_size"] = tuple(input_size[1:])
    unknown: list[str] = []
    for name, value in (config.get("model_args") or {}).items():
        if name == "img_size":
            changes["img_size"] = (value, value) if isinstance(value, int) else tuple(value)
        elif name in ("in_chans", "num_classes"):
            changes[name] = value
        elif (name, value) != ("global_pool", _global_pool(spec)) and name not in TRAINING_ARGUMENTS + SIZE_ARGUMENTS:
            unknown.append(f"{name}={shown(value)}")
    if unknown:
        raise WeightsError(
            f"{where} changes {architecture} by {', '.join(unknown)}; only img_size, in_chans and num_classes can be "
            "changed that way: make its spec with Model.replace, and fill it with hybridvit.weights.load.fill"
        )
    family = family_of(architecture)
    if "img_size" in changes:
        spec = built_for(family, architecture, changes["img_size"])
    spec = spec.replace(**changes)
    if differs(family, spec):
        height, width = spec.img_size
        warnings.warn(
            f"{where}: at {height}x{width} timm's {architecture} has other windows, or another border around maps that "
            "they do not divide, so logits differ; evaluate or fine-tune before you use these weights",
            WeightsWarning,
            stacklevel=2,
        )
    preprocess = timm_preprocess(given)
    return Foreign(
        architecture=architecture,
        spec=spec,
        rules={"timm": family.layouts["timm"](spec)},
        preprocess=None if preprocess is None else in_channels(preprocess, spec.in_chans),
        labels=_timm_labels(config | given, spec.num_classes),
        licence=given.get("license"),
    )


def _global_pool(spec: Model) -> str:
    """timm's name of the spec's pool."""
    return POOLS.get(spec.pool.kind, "avg")


def timm_preprocess(given: Mapping[str, Any]) -> Preprocess | None:
    """The preprocessing in a pretrained_cfg."""
    if not given.get("input_size"):
        return None
    known = {name: given[name] for name in ("interpolation", "crop_pct", "crop_mode", "mean", "std") if name in given}
    return Preprocess(input_size=tuple(given["input_size"][1:]), **known)


def _timm_labels(config: Mapping[str, Any], num_classes: int) -> tuple[str, ...] | None:
    """Descriptions of the classes, or else their names, which may be numbered in a table."""
    names, described = config.get("label_names"), config.get("label_descriptions") or {}
    if names and len(names) != num_classes:
        return None
    if isinstance(names, Mapping):
        names = [names.get(str(index)) for index in range(num_classes)]
    if not names or None in names:
        return None
    return tuple(str(described.get(name, name)) for name in names)
