"""transformers' image processors as preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...encoder import Model
from ...preprocess import Preprocess
from ..sources import Files, WeightsNotFoundError
from ..store import read_json

INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# ConvNeXT's processor crops what it has resized only below this size.
CROPPED_BELOW = 384


def read_processor(files: Files, spec: Model) -> Preprocess | None:
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
