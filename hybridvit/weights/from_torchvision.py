"""Writes the entries of torchvision's releases into `zoo/*.toml`: all weights of the models that the zoo has.

    python -m hybridvit.weights.from_torchvision

Entries of other origin live in the same files and are kept as they are. What changed is printed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..families import load_family
from ..preprocess import Preprocess
from ..registry import index
from ..zoo_path import zoo_path
from .from_timm import timm_entries
from .writing import update

REPORTER, HOME = "torchvision-weights", "url:https://download.pytorch.org/models/"
# torchvision's models whose layout is read, and ours. ResNets are not among them: timm releases the same files.
MODELS = {
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_v2_t": "swinv2_tiny_window8_256",
    "swin_v2_s": "swinv2_small_window8_256",
    "swin_v2_b": "swinv2_base_window8_256",
    "maxvit_t": "maxvit_t",
}
TAGS = {
    "IMAGENET1K_V1": "tv_in1k",
    "IMAGENET1K_SWAG_E2E_V1": "tv_swag_e2e_in1k",
    "IMAGENET1K_SWAG_LINEAR_V1": "tv_swag_linear_in1k",
}
SWAG = "arXiv:2201.08371"
# SWAG's README says that its weights are CC-BY-NC 4.0, torchvision's meta data where its licence lies. timm publishes
# torchvision's other weights under the licence of torchvision.
LICENCES = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0", None: "bsd-3-clause"}


def torchvision_entries() -> dict[str, dict[str, Any]]:
    """The entries of torchvision's registry, in its order."""
    from torchvision.models import get_model_weights

    return {
        f"{_architecture(ours, weights)}.{TAGS[weights.name]}": _entry(weights)
        for theirs, ours in MODELS.items()
        for weights in get_model_weights(theirs)
    }


def _architecture(ours: str, weights: Any) -> str:
    """Our architecture of the size of the weights, if there is one; a size alone does not make another."""
    base, _, _ = ours.rpartition("_")
    sized = f"{base}_{weights.transforms().crop_size[0]}"
    return sized if sized in index() else ours


def _entry(weights: Any) -> dict[str, Any]:
    meta = weights.meta
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", weights.url)
    assert digits is not None
    assert len(meta["categories"]) == 1000
    entry = {
        "source": f"url:{weights.url}",
        "layout": "torchvision",
        "sha256": digits[1],
        "licence": LICENCES[meta.get("license")],
        "labels": "imagenet-1k",
    }
    if "SWAG" in weights.name:
        entry["paper"] = SWAG
    default = asdict(Preprocess())
    preprocess = asdict(_preprocess(weights.transforms()))
    figures = meta["_metrics"]["ImageNet-1K"]
    return entry | {
        "preprocess": {key: value for key, value in preprocess.items() if value != default[key]},
        "reported": {"top1": figures["acc@1"], "top5": figures["acc@5"], "source": REPORTER},
    }


def _preprocess(transforms: Any) -> Preprocess:
    """torchvision's says to what the image is resized and what is cropped; ours, what share of it is cropped."""
    (crop,), (resize,) = transforms.crop_size, transforms.resize_size
    found = Preprocess(
        input_size=(crop, crop),
        interpolation=transforms.interpolation.value,
        crop_pct=math.floor(10000 * crop / resize) / 10000,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    assert found.resize_to == (resize, resize)
    return found


def is_torchvisions(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether an entry is generated from torchvision's registry."""
    return entry["source"].startswith(HOME)


def main() -> None:
    entries = torchvision_entries()
    for name in dict.fromkeys(index()[key.partition(".")[0]].family for key in entries):
        family = load_family(name)
        own = {key: entry for key, entry in entries.items() if index()[key.partition(".")[0]].family == name}
        timms = timm_entries(list(family.sizes)) if "timm" in family.layouts else {}
        for line in update(zoo_path() / f"{name}.toml", own, is_torchvisions, "torchvision", timms):
            print(line)


if __name__ == "__main__":
    main()
