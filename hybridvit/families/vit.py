"""ViT: patches, a class token, transformer blocks (arXiv 2010.11929), as many have trained it.

Among them AugReg (2106.10270), DINO (2104.14294), FlexiViT (2212.08013), the deep ViTs of 2203.09795, the `large` EVA
(2211.07636), InternViT (2312.14238) and C-RADIO (2412.07679). C-RADIO resizes its positions in a way of its own; here,
as in timm, they are resized like all others, so that at other sizes than 512 outputs differ from NVIDIA's code.
"""

from typing import Literal

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import NORM, POSITION, WIDTHS, Width, named_sizes, vit_stage
from . import Family, Model, Sizes, classifier

WIDTHS = WIDTHS | {"small_deep": Width(384, 36, 6), "base_16": Width(768, 12, 16), "radio_giant": Width(1536, 40, 24)}
WIDTHS |= {"wee": Width(256, 14, 4, 5), "little": Width(320, 14, 5, 5.6)}
WIDTHS |= {"so150m": Width(896, 18, 14, 2304 / 896), "so150m2": Width(832, 21, 13, 34 / 13)}
WIDTHS |= {"test": Width(64, 6, 2, 3), "test2": Width(64, 8, 2, 3)}
WIDTHS |= {"test3": Width(96, 9, 3, 2), "test4": Width(96, 9, 3, 3)}
ON_MAP = c.LearnedPosition(on_prefix=False)


def vit(
    *,
    width: str,
    patch: int,
    prefix: int = 1,
    position: c.Position = POSITION,
    qkv_bias: bool = True,
    layer_scale: float | None = None,
    norm: c.Norm = NORM,
    norm_behind: bool = False,
    pool: Literal["token", "raw token", "mean", "norm then mean", "attention", "attention to prefix too"] = "token",
) -> Model:
    """A ViT of a named width. A "token" and a "mean" are normalised, a "norm then mean" is of normalised ones.

    `norm_behind`: the norms of a block are behind attention and MLP (arXiv 2111.09883).
    """
    of = WIDTHS[width]
    attention, mlp = c.Attention(heads=of.heads, qkv_bias=qkv_bias), c.Mlp(hidden=of.hidden)
    behind = c.residual_block(attention, mlp, post_norm=norm)
    block = behind if norm_behind else c.transformer_block(attention, mlp, norm, layer_scale)
    pools: dict[str, c.Pool] = {
        "token": c.TokenPool(norm=norm),
        "raw token": c.TokenPool(),
        "mean": c.MeanPool(post_norm=norm),
        "norm then mean": c.MeanPool(norm=norm),
        "attention": c.AttentionPool(heads=of.heads, mlp=mlp, norm=norm),
        "attention to prefix too": c.AttentionPool(heads=of.heads, mlp=mlp, norm=norm, prefix=True),
    }
    stage = vit_stage(enter=patch, width=of, prefix=prefix, position=position, block=block)
    return classifier((stage,), pools[pool])


FLEXI = {"patch": 16, "img_size": 240, "position": ON_MAP}
RADIO = {"img_size": 512, "position": ON_MAP, "pool": "raw token", "num_classes": 0}
SIZES: Sizes = (
    {"test_vit": {"width": "test", "patch": 16, "img_size": 160}}
    | named_sizes("vit_tiny_patch16_{224,384} vit_small_patch8_224 vit_small_patch{16,32}_{224,384}")
    | named_sizes("vit_base_patch8_224 vit_base_patch{16,32}_{224,384}")
    | named_sizes("vit_large_patch14_224 vit_large_patch{16,32}_{224,384} vit_{huge,giant,gigantic}_patch14_224")
    | named_sizes("vit_base_patch16_224_miil", qkv_bias=False)
    | named_sizes("vit_base_patch32_plus_256 vit_base_patch16_plus_240", width="base_plus", layer_scale=1e-5)
    | named_sizes("vit_small_patch16_36x1_224", width="small_deep", layer_scale=1e-5)
    | {f"flexivit_{width}": {"width": width} | FLEXI for width in ("small", "base", "large")}
    | named_sizes("eva_large_patch14_{196,336}", pool="mean")
    | named_sizes("vit_intern300m_patch14_448", width="large", layer_scale=0.1, pool="raw token", num_classes=0)
    | named_sizes("vit_{base,large}_patch16_radio_v3", prefix=8, layer_scale=1e-5, **RADIO)
    | named_sizes("vit_huge_patch16_radio_v3", prefix=8, **RADIO)
    | named_sizes("vit_giant_patch16_radio_v3", prefix=8, **RADIO, width="radio_giant")
    | named_sizes("vit_{so400m,huge}_patch16_radio_v4", prefix=10, **RADIO)
)
FAMILY = Family("vit", "arXiv 2010.11929", vit, SIZES, {"timm": timm_vit_rules})
