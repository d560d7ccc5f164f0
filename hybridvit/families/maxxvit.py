"""MaxxViT: MaxViT (arXiv 2204.01697) with blocks of ConvNeXt (arXiv 2201.03545), by Ross Wightman.

The second version attends over a grid only.
"""

from .. import components as c
from . import Family, Numbers, Sizes
from .maxvit import AT_256, AT_384, MLP, NANO, TINY, maxvit, timm_rules

COMMON: Numbers = MLP | {"conv": c.ConvNeXt(layer_scale=1e-6), "layer_scale": 1e-6}
NEXT_TINY = TINY | COMMON
NEXT_SMALL = NEXT_TINY | {"stem": (48, 96), "dims": (96, 192, 384, 768)}
V2 = COMMON | {"layouts": ("grid",)}
V2_BASE = V2 | {"stem": (64, 128), "dims": (128, 256, 512, 1024), "depths": (2, 6, 12, 2)}
SIZES: Sizes = {
    "maxxvit_rmlp_nano_rw_256": NANO | COMMON | AT_256,
    "maxxvit_rmlp_tiny_rw_256": NEXT_TINY | AT_256,
    "maxxvit_rmlp_small_rw_256": NEXT_SMALL | AT_256,
    "maxxvitv2_nano_rw_256": NEXT_SMALL | V2 | AT_256 | {"depths": (1, 2, 3, 1), "bias": c.RelativePositionBias()},
    "maxxvitv2_rmlp_base_rw_224": V2_BASE,
    "maxxvitv2_rmlp_base_rw_384": V2_BASE | AT_384,
    "maxxvitv2_rmlp_large_rw_224": V2
    | {"stem": (80, 160), "dims": (160, 320, 640, 1280), "depths": (2, 6, 16, 2), "hidden": True},
}
FAMILY = Family("maxxvit", "arXiv 2204.01697", maxvit, SIZES, {"timm": timm_rules})
