"""CoAtNets as timm trained them (by Ross Wightman): CoAtNet with other numbers.

`coatnet_rmlp_*` compute relative positions by an MLP, `coatnet_nano_cc` enters every stage by a convolution, and
`coatnext_nano` has ConvNeXt blocks instead of MBConv.
"""

from dataclasses import replace

from ..components import BatchNorm, ConvNeXt, Excite, MaxPool, MBConv, RelativePositionMlp
from . import Family, Numbers, Sizes
from .coatnet import coatnet, timm_rules


def _sizes() -> Sizes:
    nano: Numbers = {"stem": (32, 64), "dims": (64, 128, 256, 512), "depths": (3, 4, 6, 3)}
    small: Numbers = {"stem": (32, 64), "dims": (96, 192, 384, 768), "depths": (2, 3, 7, 2)}
    base: Numbers = small | {"depths": (2, 6, 14, 2)}
    medium: Numbers = base | {"stem": (64, 128), "dims": (128, 256, 512, 1024)}
    large: Numbers = base | {"stem": (96, 192), "dims": (192, 384, 768, 1536)}
    test: Numbers = {"stem": (16, 32), "dims": (32, 64, 96, 128), "depths": (1, 1, 2, 1), "img_size": 160}

    rw: Numbers = {"widen_last": True, "hidden": False}
    simple = MBConv(act="silu", widen_last=True, excite=Excite(ratio=1.0))
    excited = replace(simple, act_first=True, bias=False)
    relu = replace(excited, excite=Excite(act="relu", ratio=1.0))
    first = replace(relu, excite=replace(relu.excite, early=True))
    early: Numbers = rw | {"conv": first, "shortcut_bias": False}
    early_pooled = early | {"conv": replace(first, pool_to_stride=True)}
    scaled: Numbers = rw | {"conv": excited, "layer_scale": 1e-6}
    mlp, mlp_384 = {"bias": RelativePositionMlp()}, {"bias": RelativePositionMlp(hidden=384)}
    cc = {"conv": replace(relu, pool_to_stride=True), "kinds": ("conv", "conv", "mixed", "mixed")}

    return {
        "coatnet_pico_rw_224": nano | rw | {"depths": (2, 3, 5, 2), "conv": simple},
        "coatnet_nano_rw_224": nano | rw | {"conv": replace(simple, pool_to_stride=True)},
        "coatnet_0_rw_224": small | early_pooled,
        "coatnet_1_rw_224": base | early,
        "coatnet_2_rw_224": medium | rw | {"conv": excited},
        "coatnet_3_rw_224": large | scaled,
        "coatnet_bn_0_rw_224": small | early | {"norm": BatchNorm(eps=1e-6)},
        "coatnet_rmlp_nano_rw_224": nano | rw | mlp_384 | {"conv": simple},
        "coatnet_rmlp_0_rw_224": small | rw | mlp | {"conv": relu},
        "coatnet_rmlp_1_rw_224": base | early_pooled | mlp_384 | {"pool": MaxPool()},
        "coatnet_rmlp_1_rw2_224": base | rw | mlp | {"conv": relu},
        "coatnet_rmlp_2_rw_224": medium | scaled | mlp,
        "coatnet_rmlp_2_rw_384": medium | scaled | mlp | {"img_size": 384},
        "coatnet_rmlp_3_rw_224": large | scaled | mlp,
        "coatnet_nano_cc_224": nano | rw | cc,
        "test_coatnet": test | rw | {"conv": replace(simple, pool_to_stride=True)},
        "coatnext_nano_rw_224": nano | rw | {"conv": ConvNeXt(layer_scale=1e-5)},
    }


FAMILY = Family("coatnet_rw", "arXiv 2106.04803", coatnet, _sizes(), {"timm": timm_rules})
