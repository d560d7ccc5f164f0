"""transformers' repositories: a config's numbers as a spec of ours, and its image processor as preprocessing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..components.heads import DistilledHead, LinearHead
from ..components.norms import LayerNorm
from ..components.pools import TokenPool
from ..components.transitions import Patchify
from ..encoder import Model, Stage
from ..families import load_family
from ..families.cvt import cvt
from ..families.vit_hybrid import bit_stages
from ..keys import KeyRules
from ..layouts import TRANSFORMERS_FILES, TRANSFORMERS_V5, transformers_rules
from ..preprocess import Preprocess
from ..spec import Norm, nearest
from ..trunks import NORM, Width, vit_stage
from .foreign import Foreign
from .sources import WeightsNotFoundError
from .store import WeightsError, read_json

if TYPE_CHECKING:
    from .sources import Files

Config = Mapping[str, Any]
# The classifiers of the model classes that can be read; a file with none of them gives embeddings.
CLASSIFIERS = ("classifier.weight", "cls_classifier.weight")


class UnsupportedConfigError(WeightsError):
    """A config asks for something that the components here do not compute."""


class Reader(NamedTuple):
    """How a model type is read: a spec from the config, the names in the file and a norm; layouts; released family."""

    spec: Callable[[Config, Collection[str], Norm], Model]
    rules: Callable[[Model], tuple[KeyRules, ...]]
    family: str


def from_transformers(config: Config, files: Files, shapes: Mapping[str, tuple[int, ...]]) -> Foreign:
    """A repository in transformers' format: `model_type` and its numbers, with a preprocessor_config.json beside it.

    `shapes` are those of the tensors in its weight file: the config alone does not say whether there is a classifier.
    """
    kind = config["model_type"]
    if kind not in READERS:
        raise UnsupportedConfigError(
            f"{files.where} is a transformers model of type {kind!r}.{nearest(str(kind), READERS)} "
            f"Types that can be read: {', '.join(READERS)}"
        )
    reader = READERS[kind]
    size = config.get("image_size", 224)
    changes: dict[str, Any] = {
        "img_size": (size, size) if isinstance(size, int) else tuple(size),
        "in_chans": config.get("num_channels", 3),
        "num_classes": next((shapes[key][0] for key in CLASSIFIERS if key in shapes), 0),
    }
    try:
        spec = reader.spec(config, shapes, LayerNorm(eps=config.get("layer_norm_eps", 1e-12))).replace(**changes)
        usual = reader.spec(config, shapes, NORM).replace(**changes)
    except UnsupportedConfigError as error:
        raise UnsupportedConfigError(f"{files.where}, a transformers model of type {kind}: {error}") from None
    return Foreign(
        architecture=_name_of(usual, reader.family),
        spec=spec,
        rules=reader.rules(spec),
        preprocess=_preprocess(files, spec),
        labels=_labels(config, spec.num_classes),
        licence=None,
    )


def _name_of(spec: Model, family: str) -> str | None:
    """The model of the zoo that has this spec but for size, channels and classes; of its own size if there is one."""
    sizes = load_family(family).sizes
    released = {name: load_family(family).model(name) for name in sizes}
    changes = {"in_chans": spec.in_chans, "num_classes": spec.num_classes}
    same = [name for name, of in released.items() if of.replace(img_size=spec.img_size, **changes) == spec]
    return min(same, key=lambda name: released[name].img_size != spec.img_size, default=None)


def _labels(config: Config, num_classes: int) -> tuple[str, ...] | None:
    """Names of the classes; transformers calls them LABEL_0, LABEL_1, ... where it has none."""
    names = config.get("id2label") or {}
    labels = tuple(str(names[key]) for key in sorted(names, key=int))
    placeholders = all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return None if placeholders or len(labels) != num_classes else labels


def _require(config: Config, **expected: Any) -> None:
    """Raises UnsupportedConfigError for a field that has another value than the one that is computed here."""
    for name, value in expected.items():
        given = config.get(name, value)
        if (tuple(given) if isinstance(given, list) else given) != value:
            raise UnsupportedConfigError(f"{name} is {given!r}, and only {value!r} can be built")


def _width(config: Config) -> Width:
    _require(config, hidden_act="gelu", qkv_bias=True)
    dim, hidden = config.get("hidden_size", 768), config.get("intermediate_size", 3072)
    if hidden % dim:
        raise UnsupportedConfigError(f"intermediate_size {hidden} is no multiple of hidden_size {dim}")
    return Width(dim, config.get("num_hidden_layers", 12), config.get("num_attention_heads", 12), hidden // dim)


def _trunk(config: Config, norm: Norm, prefix: int = 1) -> Stage:
    width, patch = _width(config), config.get("patch_size", 16)
    if not isinstance(patch, int):
        raise UnsupportedConfigError(f"patch_size is {patch!r}, and only square patches can be built")
    return vit_stage(enter=Patchify(dim=width.dim, patch=patch), width=width, prefix=prefix, norm=norm)


def _vit(config: Config, keys: Collection[str], norm: Norm) -> Model:
    return Model(stages=(_trunk(config, norm),), pool=TokenPool(norm=norm), head=LinearHead())


def _deit(config: Config, keys: Collection[str], norm: Norm) -> Model:
    """Every `deit` has a distillation token, but only one with a teacher classifies it."""
    distilled = "cls_classifier.weight" in keys
    return Model(
        stages=(_trunk(config, norm, prefix=2),),
        pool=TokenPool(norm=norm, tokens=1 + distilled),
        head=DistilledHead() if distilled else LinearHead(),
    )


def _deit_rules(model: Model) -> tuple[KeyRules, ...]:
    if model.head == DistilledHead():
        return _layouts("deit")(model)
    tokens = ("cls_token", "distillation_token")
    return tuple(
        transformers_rules(model, names, base="deit", tokens=tokens) for names in (TRANSFORMERS_FILES, TRANSFORMERS_V5)
    )


def _cvt(config: Config, keys: Collection[str], norm: Norm) -> Model:
    """The norms of a CvT do not heed the config's eps."""
    thrice = {"mlp_ratio": 4.0, "kernel_qkv": 3, "padding_kv": 1, "stride_kv": 2, "padding_q": 1, "stride_q": 1}
    _require(config, **{name: (value,) * 3 for name, value in thrice.items()})
    _require(config, qkv_bias=(True,) * 3, qkv_projection_method=("dw_bn",) * 3, cls_token=(False, False, True))
    _require(config, patch_sizes=(7, 3, 3), patch_stride=(4, 2, 2), patch_padding=(2, 1, 1))
    return cvt(
        dims=tuple(config.get("embed_dim", (64, 192, 384))),
        depths=tuple(config.get("depth", (1, 2, 10))),
        heads=tuple(config.get("num_heads", (1, 3, 6))),
    )


def _vit_hybrid(config: Config, keys: Collection[str], norm: Norm) -> Model:
    backbone = config.get("backbone_config") or {}
    depths = tuple(backbone.get("depths", (3, 4, 9)))
    _require(backbone, model_type="bit", layer_type="bottleneck", global_padding="same", embedding_dynamic_padding=True)
    _require(backbone, embedding_size=64, num_groups=32, width_factor=1, hidden_act="relu")
    _require(backbone, out_features=(f"stage{len(depths)}",), hidden_sizes=(256, 512, 1024, 2048)[: len(depths)])
    trunk = _trunk({"patch_size": 1, **config}, norm)
    return Model(stages=(*bit_stages(*depths), trunk), pool=TokenPool(norm=norm), head=LinearHead())


def _layouts(family: str) -> Callable[[Model], tuple[KeyRules, ...]]:
    def rules(model: Model) -> tuple[KeyRules, ...]:
        layouts = load_family(family).layouts
        return tuple(make(model) for name, make in layouts.items() if name.startswith("transformers"))

    return rules


READERS = {
    "vit": Reader(_vit, _layouts("vit"), "vit"),
    "deit": Reader(_deit, _deit_rules, "deit"),
    "cvt": Reader(_cvt, _layouts("cvt"), "cvt"),
    "vit-hybrid": Reader(_vit_hybrid, _layouts("vit_hybrid"), "vit_hybrid"),
}
INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# ConvNeXT's processor crops what it has resized only below this size.
CROPPED_BELOW = 384


def _preprocess(files: Files, spec: Model) -> Preprocess | None:
    """What an image processor of transformers does; None if the repository has none, or offline none in the cache."""
    try:
        path = files.get("preprocessor_config.json")
    except WeightsNotFoundError:
        return None
    if path is None:
        return None
    given = read_json(path)
    resized = _size(given.get("size") or spec.img_size)
    crop = given.get("crop_size") if given.get("do_center_crop") else None
    shape, crop_pct, crop_mode = resized.shape, 1.0, "center" if resized.by_shortest else "squash"
    if crop:
        shape = _size(crop).shape
        crop_pct = min(shape[0] / resized.shape[0], 1.0)
    elif "crop_pct" in given:
        cropped = shape[0] < CROPPED_BELOW
        crop_pct, crop_mode = (given["crop_pct"] or 1.0, "center") if cropped else (1.0, "squash")
    normalized = given.get("do_normalize", True)
    return Preprocess(
        input_size=shape,
        interpolation=INTERPOLATIONS.get(given.get("resample", 2), "bilinear"),
        crop_pct=crop_pct,
        crop_mode=crop_mode,
        mean=tuple(given.get("image_mean", (0.5, 0.5, 0.5))) if normalized else (0.0,) * spec.in_chans,
        std=tuple(given.get("image_std", (0.5, 0.5, 0.5))) if normalized else (1.0,) * spec.in_chans,
    )


class _Size(NamedTuple):
    shape: tuple[int, int]
    by_shortest: bool


def _size(given: Any) -> _Size:
    """Any way to write a size: a number, (height, width), {height, width} or {shortest_edge}."""
    if isinstance(given, int):
        return _Size((given, given), False)
    if not isinstance(given, Mapping):
        height, width = given
        return _Size((height, width), False)
    if "shortest_edge" in given:
        return _Size((given["shortest_edge"],) * 2, True)
    return _Size((given["height"], given["width"]), False)
