"""CoAtNets as timm trained them (by Ross Wightman): CoAtNet with other numbers.

`coatnet_rmlp_*` compute relative positions by an MLP, `coatnet_nano_cc` enters every stage by a convolution, and
`coatnext_nano` has ConvNeXt blocks instead of MBConv.
"""

from dataclasses import replace

from .. import components as c
from . import Family, Numbers, Sizes
from .coatnet import coatnet, timm_rules

NANO: Numbers = {"stem": (32, 64), "dims": (64, 128, 256, 512), "depths": (3, 4, 6, 3)}
SMALL: Numbers = {"stem": (32, 64), "dims": (96, 192, 384, 768), "depths": (2, 3, 7, 2)}
BASE: Numbers = SMALL | {"depths": (2, 6, 14, 2)}
MEDIUM: Numbers = BASE | {"stem": (64, 128), "dims": (128, 256, 512, 1024)}
LARGE: Numbers = BASE | {"stem": (96, 192), "dims": (192, 384, 768, 1536)}
TEST: Numbers = {"stem": (16, 32), "dims": (32, 64, 96, 128), "depths": (1, 1, 2, 1), "img_size": 160}
RW: Numbers = {"widen_last": True, "hidden": False}
SIMPLE = c.MBConv(act="silu", widen_last=True, excite=c.Excite(ratio=1.0))
EXCITED = replace(SIMPLE, act_first=True, bias=False)
RELU = replace(EXCITED, excite=c.Excite(act="relu", ratio=1.0))
FIRST = replace(RELU, excite=replace(RELU.excite, early=True))
EARLY: Numbers = RW | {"conv": FIRST, "shortcut_bias": False}
EARLY_POOLED = EARLY | {"conv": replace(FIRST, pool_to_stride=True)}
SCALED: Numbers = RW | {"conv": EXCITED, "layer_scale": 1e-6}
MLP, MLP_384 = {"bias": c.RelativePositionMlp()}, {"bias": c.RelativePositionMlp(hidden=384)}
CC = {"conv": replace(RELU, pool_to_stride=True), "kinds": ("conv", "conv", "mixed", "mixed")}
SIZES: Sizes = {
    "coatnet_pico_rw_224": NANO | RW | {"depths": (2, 3, 5, 2), "conv": SIMPLE},
    "coatnet_nano_rw_224": NANO | RW | {"conv": replace(SIMPLE, pool_to_stride=True)},
    "coatnet_0_rw_224": SMALL | EARLY_POOLED,
    "coatnet_1_rw_224": BASE | EARLY,
    "coatnet_2_rw_224": MEDIUM | RW | {"conv": EXCITED},
    "coatnet_3_rw_224": LARGE | SCALED,
    "coatnet_bn_0_rw_224": SMALL | EARLY | {"norm": c.BatchNorm(eps=1e-6)},
    "coatnet_rmlp_nano_rw_224": NANO | RW | MLP_384 | {"conv": SIMPLE},
    "coatnet_rmlp_0_rw_224": SMALL | RW | MLP | {"conv": RELU},
    "coatnet_rmlp_1_rw_224": BASE | EARLY_POOLED | MLP_384 | {"pool": c.MaxPool()},
    "coatnet_rmlp_1_rw2_224": BASE | RW | MLP | {"conv": RELU},
    "coatnet_rmlp_2_rw_224": MEDIUM | SCALED | MLP,
    "coatnet_rmlp_2_rw_384": MEDIUM | SCALED | MLP | {"img_size": 384},
    "coatnet_rmlp_3_rw_224": LARGE | SCALED | MLP,
    "coatnet_nano_cc_224": NANO | RW | CC,
    "test_coatnet": TEST | RW | {"conv": replace(SIMPLE, pool_to_stride=True)},
    "coatnext_nano_rw_224": NANO | RW | {"conv": c.ConvNeXt(layer_scale=1e-5)},
}
FAMILY = Family("coatnet_rw", "arXiv 2106.04803", coatnet, SIZES, {"timm": timm_rules})
