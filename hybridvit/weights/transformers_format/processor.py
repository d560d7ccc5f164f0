"""transformers' image processors as preprocessing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...encoder import Model
from ...preprocess import Preprocess
from ..sources import Files, WeightsWarning
from ..store import read_json

INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# ConvNeXT's processor crops what it has resized only below this size.
CROPPED_BELOW = 384
# Processors that take a size for that of the shortest edge where it is a number alone.
BY_SHORTEST = ("Bit", "ConvNext", "Levit", "MobileViT", "PoolFormer")


class Processor(NamedTuple):
    """What an image processor does; `reverses`: it gives blue, green and red, in this order."""

    preprocess: Preprocess
    reverses: bool


def read_processor(files: Files, spec: Model) -> Processor | None:
    """What an image processor of transformers does; None if the repository has none, or offline none in the cache."""
    path = files.get("preprocessor_config.json")
    if path is None:
        return None
    given = read_json(path)
    kind = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    mobile = kind.startswith("MobileViT")
    resized = _size(given.get("size") or spec.img_size, square=not kind.startswith(BY_SHORTEST))
    crop = given.get("crop_size") if given.get("do_center_crop") else None
    shape, crop_pct, crop_mode = resized.shape, 1.0, "center" if resized.by_shortest else "squash"
    if crop:
        shape = _size(crop).shape
        crop_pct = _share(shape, resized, _shrunk(kind, given, resized), files.where)
    elif "crop_pct" in given:
        cropped = shape[0] < CROPPED_BELOW
        crop_pct, crop_mode = (given["crop_pct"] or 1.0, "center") if cropped else (1.0, "squash")
    normalized = given.get("do_normalize", not mobile)
    preprocess = Preprocess(
        input_size=shape,
        interpolation=INTERPOLATIONS.get(given.get("resample", 2), "bilinear"),
        crop_pct=crop_pct,
        crop_mode=crop_mode,
        mean=tuple(given.get("image_mean", (0.5, 0.5, 0.5))) if normalized else (0.0,) * spec.in_chans,
        std=tuple(given.get("image_std", (0.5, 0.5, 0.5))) if normalized else (1.0,) * spec.in_chans,
    )
    return Processor(preprocess, given.get("do_flip_channel_order", mobile))


class _Size(NamedTuple):
    shape: tuple[int, int]
    by_shortest: bool


def _size(given: Any, square: bool = True) -> _Size:
    """Any way to write a size: a number, of a `square` or else the shortest edge, (height, width), or their names."""
    if isinstance(given, int):
        return _Size((given, given), not square)
    if not isinstance(given, Mapping):
        height, width = given
        return _Size((height, width), False)
    if "shortest_edge" in given:
        return _Size((given["shortest_edge"],) * 2, True)
    return _Size((given["height"], given["width"]), False)


def _share(crop: tuple[int, int], size: _Size, shrunk: float, where: str) -> float:
    """The crop_pct of a crop of what is resized to `size / shrunk`. Warns if it is not just that for both sides."""
    share = min(1.0, *(side / of * shrunk for side, of in zip(crop, size.shape, strict=True)))
    whole = tuple(int(side / shrunk) for side in size.shape)
    for each in (share, math.nextafter(share, 0)):
        resized = tuple(math.floor(side / each) for side in crop)
        if resized == whole and (crop[0] == crop[1] or not size.by_shortest):
            return each
    of = f"a shortest edge of {whole[0]}" if size.by_shortest else f"{whole[0]}x{whole[1]}"
    warnings.warn(
        f"{where}: its preprocessor_config.json resizes images to {of} and crops {crop[0]}x{crop[1]} of that; a crop "
        "here keeps the same share of both sides, so hv.transforms(model) sees a little more or less of an image; set "
        "model.preprocess if that matters",
        WeightsWarning,
        stacklevel=2,
    )
    return share


def _shrunk(kind: str, given: Mapping[str, Any], size: _Size) -> float:
    """The size that a processor is given over the larger one that it resizes to, before it crops."""
    if kind.startswith("Levit") and size.by_shortest:
        return 224 / 256
    return (given.get("crop_pct", 0.9) or 1.0) if kind.startswith("PoolFormer") else 1.0
