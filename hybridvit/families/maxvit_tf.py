"""MaxViT in the sizes and with the weights of its paper (arXiv 2204.01697), which come from TensorFlow.

Convolutions pad as TensorFlow does. On odd maps pooling averages what is inside, as there; timm counts the padding.
"""

from functools import partial
from math import isqrt
from typing import Any

from torch import Tensor

from ..components import BatchNorm, LayerNorm, MBConv
from ..keys import Rename
from . import Family
from .maxvit import maxvit, timm_rules

Numbers = dict[str, Any]

TINY: Numbers = {
    "stem": (64, 64),
    "dims": (64, 128, 256, 512),
    "depths": (2, 2, 5, 2),
    "conv": MBConv(act="gelu_tanh", norm=BatchNorm(eps=1e-3), padding="same"),
    "norm": LayerNorm(eps=1e-5),
    "act": "gelu_tanh",
    "stem_bias": True,
    "hidden": True,
}
SMALL = TINY | {"dims": (96, 192, 384, 768)}
BASE = SMALL | {"depths": (2, 6, 14, 2)}
LARGE = BASE | {"stem": (128, 128), "dims": (128, 256, 512, 1024)}
XLARGE = BASE | {"stem": (192, 192), "dims": (192, 384, 768, 1536)}
WIDTHS = {"tiny": TINY, "small": SMALL, "base": BASE, "large": LARGE, "xlarge": XLARGE}
SIZES = {
    f"maxvit_{width}_tf_{size}": numbers | {"img_size": size}
    for width, numbers in WIDTHS.items()
    for size in (224, 384, 512)
}


def by_key_offset(theirs: str, ours: str) -> Rename:
    """A table (heads, 2n - 1, 2n - 1) by the offset key - query is one by the offset query - key of ours."""

    def to_ours(table: Tensor) -> Tensor:
        return table.flip(1, 2).flatten(1).t().contiguous()

    def to_theirs(table: Tensor) -> Tensor:
        side = isqrt(table.shape[0])
        return table.t().unflatten(1, (side, side)).flip(1, 2).contiguous()

    return Rename(theirs, ours, to_ours, to_theirs)


LAYOUTS = {"timm": partial(timm_rules, qkv=Rename, table=by_key_offset)}
FAMILY = Family(name="maxvit_tf", paper="arXiv 2204.01697", build=maxvit, sizes=SIZES, layouts=LAYOUTS)
