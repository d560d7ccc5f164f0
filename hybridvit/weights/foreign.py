"""Other packages' repositories: what a config.json of timm or transformers says, as a spec and key rules of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..components.pools import TokenPool
from ..keys import KeyRules
from ..preprocess import Preprocess
from ..registry import UnknownNameError, family_of, index, model_spec
from ..spec import nearest
from .store import WeightsError

if TYPE_CHECKING:
    from ..encoder import Model
    from .sources import Files

# What timm lets a caller pass that changes training only.
TRAINING_ARGUMENTS = ("drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate", "weight_init")
# What timm needs to be told to take any size; ours always does.
SIZE_ARGUMENTS = ("dynamic_img_size", "dynamic_img_pad", "strict_img_size")


@dataclass(frozen=True)
class Foreign:
    """A model of another package: our spec for it, the layouts its tensors may have, and what belongs to it."""

    architecture: str
    spec: Model
    rules: tuple[KeyRules, ...]
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    licence: str | None


def from_timm(config: Mapping[str, Any], where: str) -> Foreign:
    """A repository in timm's format: top-level `architecture`, `pretrained_cfg`, `model_args`."""
    architecture, given = config["architecture"], config.get("pretrained_cfg", config)
    if architecture not in index():
        raise UnknownNameError(
            f"{where} holds timm's {architecture!r}, which is not in the zoo.{nearest(architecture, index())}"
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
            unknown.append(f"{name}={value!r}")
    if unknown:
        raise WeightsError(
            f"{where} changes {architecture} by {', '.join(unknown)}; only img_size, in_chans and num_classes can be "
            "changed that way: build its spec with Model.replace and load the file with load_weights"
        )
    spec = spec.replace(**changes)
    return Foreign(
        architecture=architecture,
        spec=spec,
        rules=(family_of(architecture).layouts["timm"](spec),),
        preprocess=timm_preprocess(given),
        labels=_timm_labels(config),
        licence=given.get("license"),
    )


def _global_pool(spec: Model) -> str:
    """timm's name of the spec's pool."""
    return "token" if spec.pool.kind == TokenPool.kind else "avg"


def timm_preprocess(given: Mapping[str, Any]) -> Preprocess | None:
    """The preprocessing in a pretrained_cfg."""
    if not given.get("input_size"):
        return None
    known = {name: given[name] for name in ("interpolation", "crop_pct", "crop_mode", "mean", "std") if name in given}
    return Preprocess(input_size=tuple(given["input_size"][1:]), **known)


def _timm_labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    names, described = config.get("label_names"), config.get("label_descriptions") or {}
    if not isinstance(names, list):
        return None
    return tuple(described.get(name, name) for name in names)


def from_transformers(config: Mapping[str, Any], files: Files) -> Foreign:
    """A repository in transformers' format: `model_type`, `id2label`, and a preprocessor_config.json beside it."""
    kind = config["model_type"]
    if kind not in TRANSFORMERS:
        raise WeightsError(
            f"{files.where} is a transformers model of type {kind!r}.{nearest(kind, TRANSFORMERS)} "
            f"Types that can be read: {', '.join(TRANSFORMERS)}"
        )
    architecture = TRANSFORMERS[kind](config)
    if architecture is None:
        raise WeightsError(f"{files.where}: a {kind} of this size is none of the zoo's; its config names the numbers")
    names = config.get("id2label") or {}
    labels = tuple(names[key] for key in sorted(names, key=int)) or None
    changes: dict[str, Any] = {"num_classes": len(labels) if labels else 0, "in_chans": config.get("num_channels", 3)}
    size = config.get("image_size")
    if size:
        changes["img_size"] = (size, size) if isinstance(size, int) else tuple(size)
    spec = model_spec(architecture).replace(**changes)
    layouts = family_of(architecture).layouts
    return Foreign(
        architecture=architecture,
        spec=spec,
        rules=tuple(rules(spec) for name, rules in layouts.items() if name.startswith("transformers")),
        preprocess=_transformers_preprocess(files, spec),
        labels=labels,
        licence=None,
    )


def _transformers_preprocess(files: Files, spec: Model) -> Preprocess | None:
    from .store import read_json

    path = files.get("preprocessor_config.json")
    if path is None:
        return None
    given = read_json(path)
    size, crop = given.get("size") or {}, given.get("crop_size") or {}
    if isinstance(size, int):
        size = {"height": size, "width": size}
    shortest = size.get("shortest_edge")
    crop_pct = given.get("crop_pct") or 1.0
    if shortest and crop.get("height"):
        crop_pct = min(crop["height"] / shortest, 1.0)
    height = crop.get("height") or size.get("height") or shortest or spec.img_size[0]
    width = crop.get("width") or size.get("width") or shortest or spec.img_size[1]
    return Preprocess(
        input_size=(height, width),
        interpolation={0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(
            given.get("resample", 2), "bilinear"
        ),
        crop_pct=crop_pct,
        crop_mode="center" if shortest or given.get("crop_pct") else "squash",
        mean=tuple(given.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(given.get("image_std", (0.5, 0.5, 0.5))),
    )


def _vit_name(config: Mapping[str, Any], family: str = "vit") -> str | None:
    width = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}.get(config.get("hidden_size", 768))
    patch = config.get("patch_size", 16)
    return next((n for n in (f"{family}_{width}_patch{patch}_{size}" for size in (224, 384)) if n in index()), None)


def _deit_name(config: Mapping[str, Any]) -> str | None:
    teacher = any("WithTeacher" in name for name in config.get("architectures") or ())
    width = {192: "tiny", 384: "small", 768: "base"}.get(config.get("hidden_size", 768))
    name = f"deit_{width}{'_distilled' if teacher else ''}_patch{config.get('patch_size', 16)}_224"
    return name if name in index() else None


def _cvt_name(config: Mapping[str, Any]) -> str | None:
    sizes = {((64, 192, 384), (1, 2, 10)): "cvt_13", ((64, 192, 384), (1, 4, 16)): "cvt_21"}
    sizes[(192, 768, 1024), (2, 2, 20)] = "cvt_w24_384"
    dims, depths = config.get("embed_dim", (64, 192, 384)), config.get("depth", (1, 2, 10))
    return sizes.get((tuple(dims), tuple(depths)))


def _vit_hybrid_name(config: Mapping[str, Any]) -> str | None:
    layers = tuple((config.get("backbone_config") or {}).get("depths", (3, 4, 9)))
    return "vit_base_r50_s16_384" if layers == (3, 4, 9) and config.get("hidden_size", 768) == 768 else None


TRANSFORMERS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "vit": _vit_name,
    "deit": _deit_name,
    "cvt": _cvt_name,
    "vit-hybrid": _vit_hybrid_name,
}
