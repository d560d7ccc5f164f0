"""ViTs without a class token, which pool their patches (arXiv 2106.04560); most have registers (2309.16588).

timm's searching baselines are of the shape-optimised kind (2305.13035), the `huge` and `giant` ones I-JEPA's
(2301.08243).
"""

from functools import partial
from typing import Literal

from ..components import Attention, AttentionPool, LearnedPosition, MeanPool, Mlp, Patchify, RmsNorm
from ..components.blocks import residual_block, transformer_block
from ..layouts import timm_vit_rules
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_stage
from . import Family, Model, Norm, Sizes, classifier

WIDTHS = WIDTHS | {
    "test2": Width(64, 8, 2, mlp_ratio=3),
    "test3": Width(96, 9, 3, mlp_ratio=2),
    "test4": Width(96, 9, 3, mlp_ratio=3),
    "wee": Width(256, 14, 4, mlp_ratio=5),
    "little": Width(320, 14, 5, mlp_ratio=5.6),
    "base_16": Width(768, 12, 16),
    "so150m": Width(896, 18, 14, mlp_ratio=2304 / 896),
    "so150m2": Width(832, 21, 13, mlp_ratio=34 / 13),
}


def vit_gap(
    *,
    width: str,
    patch: int,
    registers: int = 0,
    qkv_bias: bool = True,
    position_on_prefix: bool = True,
    layer_scale: float | None = None,
    pool: Literal["mean", "norm then mean", "attention", "attention to registers too"] = "mean",
    norm: Norm = NORM,
    norm_behind: bool = False,
) -> Model:
    """A ViT of a named width, without class token. A "mean" is normalised, a "norm then mean" is of normalised ones.

    `norm_behind`: the norms of a block are behind attention and MLP (arXiv 2111.09883).
    """
    of = WIDTHS[width]
    attention, mlp = Attention(heads=of.heads, qkv_bias=qkv_bias), Mlp(hidden=of.hidden)
    behind = residual_block(attention, mlp, post_norm=norm)
    block = behind if norm_behind else transformer_block(attention, mlp, norm, layer_scale)
    patches, position = Patchify(dim=of.dim, patch=patch), LearnedPosition(on_prefix=position_on_prefix)
    stage = vit_stage(enter=patches, width=of, prefix=registers, position=position, block=block)
    pools = {
        "mean": MeanPool(post_norm=norm),
        "norm then mean": MeanPool(norm=norm),
        "attention": AttentionPool(heads=of.heads, mlp=mlp, norm=norm),
        "attention to registers too": AttentionPool(heads=of.heads, mlp=mlp, norm=norm, prefix=True),
    }
    return classifier((stage,), pools[pool])


FIRST, SCALED = {"pool": "norm then mean"}, {"layer_scale": 1e-5}
TEST, APART = SCALED | {"patch": 16, "img_size": 160, "registers": 1}, SCALED | {"position_on_prefix": False}
SIZES: Sizes = (
    {"test_vit2": TEST | {"width": "test2"}}
    | {"test_vit3": TEST | {"width": "test3", "pool": "attention to registers too"}}
    | {"test_vit4": TEST | {"width": "test4", "norm": RmsNorm()}}
    | named_sizes("vit_medium_patch16_gap_{240,256,384}", qkv_bias=False, layer_scale=1e-6, **FIRST)
    | named_sizes("vit_betwixt_patch16_gap_256", qkv_bias=False, layer_scale=1e-6, **FIRST)
    | named_sizes("vit_base_patch16_gap_224", width="base_16", **FIRST)
    | named_sizes("vit_base_patch16_rpn_224", qkv_bias=False, norm_behind=True)
    | named_sizes("vit_huge_patch14_gap_224 vit_huge_patch16_gap_448", num_classes=0, **FIRST)
    | named_sizes("vit_giant_patch16_gap_224", num_classes=0, **FIRST)
    | named_sizes("vit_{wee,little,medium,betwixt}_patch16_reg1_gap_256", registers=1, **APART)
    | named_sizes("vit_{little,medium}_patch16_reg4_gap_256", registers=4, **APART)
    | named_sizes("vit_{mediumd,betwixt}_patch16_reg4_gap_{256,384}", registers=4, **APART)
    | named_sizes("vit_base_patch16_reg4_gap_256", registers=4, position_on_prefix=False)
    | named_sizes("vit_so150m_patch16_reg4_gap_{256,384}", registers=4, **FIRST)
    | named_sizes("vit_so150m_patch16_reg4_map_256", registers=4, pool="attention")
    | named_sizes("vit_so150m2_patch16_reg1_gap_{256,384,448}", registers=1, qkv_bias=False, **SCALED)
)
FAMILY = Family("vit_gap", "arXiv 2305.13035", vit_gap, SIZES, {"timm": partial(timm_vit_rules, class_token=False)})
