"""ViT: patches, a class token, transformer blocks (arXiv 2010.11929), as many have trained it.

Among them AugReg (2106.10270), DINO (2104.14294), FlexiViT (2212.08013), the deep ViTs of 2203.09795, the `large` EVA
(2211.07636), InternViT (2312.14238) and C-RADIO (2412.07679). C-RADIO resizes its positions in a way of its own; here,
as in timm, they are resized like all others, so that at other sizes than 512 outputs differ from NVIDIA's code.
"""

from ..components import Attention, LearnedPosition, MeanPool, Mlp, Patchify, TokenPool, transformer_block
from ..layouts import timm_vit_rules
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_stage
from . import Family, Model, Sizes, classifier

WIDTHS = WIDTHS | {"test": Width(64, 6, 2, mlp_ratio=3)}
WIDTHS |= {"small_deep": Width(384, 36, 6), "radio_giant": Width(1536, 40, 24)}


def vit(
    *,
    width: str,
    patch: int,
    registers: int = 0,
    qkv_bias: bool = True,
    position_on_prefix: bool = True,
    layer_scale: float | None = None,
    mean: bool = False,
    final_norm: bool = True,
) -> Model:
    """A ViT of a named width. `mean`: the classifier sees the patches' mean, normalised, instead of the class token."""
    of = WIDTHS[width]
    attention, mlp = Attention(heads=of.heads, qkv_bias=qkv_bias), Mlp(hidden=of.hidden)
    patches, position = Patchify(dim=of.dim, patch=patch), LearnedPosition(on_prefix=position_on_prefix)
    block, norm = transformer_block(attention, mlp, NORM, layer_scale), NORM if final_norm else None
    stage = vit_stage(enter=patches, width=of, prefix=1 + registers, position=position, block=block)
    return classifier((stage,), MeanPool(post_norm=norm) if mean else TokenPool(norm=norm))


FLEXI = {"patch": 16, "img_size": 240, "position_on_prefix": False}
RADIO = {"img_size": 512, "position_on_prefix": False, "final_norm": False, "num_classes": 0}
SIZES: Sizes = (
    {"test_vit": {"width": "test", "patch": 16, "img_size": 160}}
    | named_sizes("vit_tiny_patch16_{224,384} vit_small_patch8_224 vit_small_patch{16,32}_{224,384}")
    | named_sizes("vit_base_patch8_224 vit_base_patch{16,32}_{224,384}")
    | named_sizes("vit_large_patch14_224 vit_large_patch{16,32}_{224,384} vit_{huge,giant,gigantic}_patch14_224")
    | named_sizes("vit_base_patch16_224_miil", qkv_bias=False)
    | named_sizes("vit_base_patch32_plus_256 vit_base_patch16_plus_240", width="base_plus", layer_scale=1e-5)
    | named_sizes("vit_small_patch16_36x1_224", width="small_deep", layer_scale=1e-5)
    | {f"flexivit_{width}": {"width": width} | FLEXI for width in ("small", "base", "large")}
    | named_sizes("eva_large_patch14_{196,336}", mean=True)
    | named_sizes("vit_intern300m_patch14_448", width="large", layer_scale=0.1, final_norm=False, num_classes=0)
    | named_sizes("vit_{base,large}_patch16_radio_v3", registers=7, layer_scale=1e-5, **RADIO)
    | named_sizes("vit_huge_patch16_radio_v3", registers=7, **RADIO)
    | named_sizes("vit_giant_patch16_radio_v3", registers=7, **RADIO, width="radio_giant")
    | named_sizes("vit_{so400m,huge}_patch16_radio_v4", registers=9, **RADIO)
)
FAMILY = Family("vit", "arXiv 2010.11929", vit, SIZES, {"timm": timm_vit_rules})
