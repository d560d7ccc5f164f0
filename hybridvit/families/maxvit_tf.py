"""MaxViT in the sizes and with the weights of its paper (arXiv 2204.01697), which come from TensorFlow.

Convolutions pad as TensorFlow does. On odd maps pooling averages what is inside, as there; timm counts the padding.
"""

from functools import partial
from math import isqrt

from torch import Tensor

from .. import components as c
from . import Family, Numbers, Rename, Sizes
from .maxvit import maxvit, timm_rules


def by_key_offset(theirs: str, ours: str) -> Rename:
    """A table (heads, 2n - 1, 2n - 1) by the offset key - query is one by the offset query - key of ours."""

    def to_ours(table: Tensor) -> Tensor:
        return table.flip(1, 2).flatten(1).t().contiguous()

    def to_theirs(table: Tensor) -> Tensor:
        side = isqrt(table.shape[0])
        return table.t().unflatten(1, (side, side)).flip(1, 2).contiguous()

    return Rename(theirs, ours, to_ours, to_theirs)


TF: Numbers = {"norm": c.LayerNorm(eps=1e-5), "act": "gelu_tanh", "stem_bias": True, "hidden": True}
TF |= {"conv": c.MBConv(act="gelu_tanh", norm=c.BatchNorm(eps=1e-3), padding="same")}
SIZES: Sizes = {
    f"maxvit_{name}_tf_{size}": TF | {"stem": (stem, stem), "dims": dims, "depths": depths, "img_size": size}
    for name, stem, dims, depths in (
        ("tiny", 64, (64, 128, 256, 512), (2, 2, 5, 2)),
        ("small", 64, (96, 192, 384, 768), (2, 2, 5, 2)),
        ("base", 64, (96, 192, 384, 768), (2, 6, 14, 2)),
        ("large", 128, (128, 256, 512, 1024), (2, 6, 14, 2)),
        ("xlarge", 192, (192, 384, 768, 1536), (2, 6, 14, 2)),
    )
    for size in (224, 384, 512)
}
LAYOUTS = {"timm": partial(timm_rules, qkv=Rename, table=by_key_offset)}
FAMILY = Family("maxvit_tf", "arXiv 2204.01697", maxvit, SIZES, LAYOUTS)
