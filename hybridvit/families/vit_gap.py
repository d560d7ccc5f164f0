"""ViTs without a class token, which pool their patches (arXiv 2106.04560); most have registers (2309.16588).

timm's searching baselines are of the shape-optimised kind (2305.13035), the `huge` and `giant` ones I-JEPA's
(2301.08243).
"""

from functools import partial

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import named_sizes
from . import Family, Sizes
from .vit import ON_MAP, vit

FIRST, SCALED = {"pool": "norm then mean"}, {"layer_scale": 1e-5}
TEST, APART = SCALED | {"patch": 16, "img_size": 160, "prefix": 1}, SCALED | {"position": ON_MAP}
SIZES: Sizes = (
    {"test_vit2": TEST | {"width": "test2"}}
    | {"test_vit3": TEST | {"width": "test3", "pool": "attention to prefix too"}}
    | {"test_vit4": TEST | {"width": "test4", "norm": c.RmsNorm()}}
    | named_sizes("vit_medium_patch16_gap_{240,256,384}", qkv_bias=False, layer_scale=1e-6, **FIRST)
    | named_sizes("vit_betwixt_patch16_gap_256", qkv_bias=False, layer_scale=1e-6, **FIRST)
    | named_sizes("vit_base_patch16_gap_224", width="base_16", **FIRST)
    | named_sizes("vit_base_patch16_rpn_224", qkv_bias=False, norm_behind=True)
    | named_sizes("vit_huge_patch14_gap_224 vit_huge_patch16_gap_448", num_classes=0, **FIRST)
    | named_sizes("vit_giant_patch16_gap_224", num_classes=0, **FIRST)
    | named_sizes("vit_{wee,little,medium,betwixt}_patch16_reg1_gap_256", prefix=1, **APART)
    | named_sizes("vit_{little,medium}_patch16_reg4_gap_256", prefix=4, **APART)
    | named_sizes("vit_{mediumd,betwixt}_patch16_reg4_gap_{256,384}", prefix=4, **APART)
    | named_sizes("vit_base_patch16_reg4_gap_256", prefix=4, position=ON_MAP)
    | named_sizes("vit_so150m_patch16_reg4_gap_{256,384}", prefix=4, **FIRST)
    | named_sizes("vit_so150m_patch16_reg4_map_256", prefix=4, pool="attention")
    | named_sizes("vit_so150m2_patch16_reg1_gap_{256,384,448}", prefix=1, qkv_bias=False, **SCALED)
)
SIZES = {name: {"prefix": 0, "pool": "mean"} | size for name, size in SIZES.items()}
FAMILY = Family("vit_gap", "arXiv 2305.13035", vit, SIZES, {"timm": partial(timm_vit_rules, class_token=False)})
