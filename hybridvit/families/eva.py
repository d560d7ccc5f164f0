"""EVA (arXiv 2211.07636), EVA-02 (2303.11331) and the image towers of EVA-CLIP (2303.15389).

EVA-02 turns queries and keys by their position, and has gated MLPs; its larger models normalise inside the MLP too,
the CLIP towers inside attention as well. The largest tower has norms behind attention and MLP instead of in front.
"""

from .. import components as c
from ..layouts import timm_eva_rules
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_stage
from . import Family, Model, Sizes, classifier

WIDTHS = WIDTHS | {"enormous": Width(1792, 64, 16, 15360 / 1792)}
# The grid of the pretraining, 224 / 14 positions a side.
ROTARY = c.IndexRotary(reference=(16, 16))


def eva(*, width: str, patch: int, rotary: bool = False, post_norm: bool = False, clip: bool = False) -> Model:
    """An EVA of a named width, or `rotary`, an EVA-02. Its mean is classified, or, `clip`, its class token."""
    of = WIDTHS[width]
    attention: c.Attention = c.Attention(heads=of.heads, key_bias=False)
    mlp: c.Mixer = c.Mlp(hidden=of.hidden)
    if rotary:
        inner = None if width in ("tiny", "small") else NORM
        # Two thirds of four times the width, for the gate has weights too.
        attention = c.RotaryAttention(heads=of.heads, key_bias=False, rotary=ROTARY, norm=inner if clip else None)
        mlp = c.GatedMlp(hidden=of.dim * 8 // 3, norm=inner)
    block = c.residual_block(attention, mlp, norm=None if post_norm else NORM, post_norm=NORM if post_norm else None)
    stage = vit_stage(enter=patch, width=of, block=block)
    return classifier((stage,), c.TokenPool(norm=NORM) if clip else c.MeanPool(post_norm=NORM))


PRETRAINED = {"rotary": True, "num_classes": 0}
CLIP, CLIP2 = {"clip": True, "num_classes": 1024}, {"clip": True, "rotary": True}
SIZES: Sizes = (
    named_sizes("eva_giant_patch14_{224,336,560}")
    | named_sizes("eva02_{tiny,small,base,large}_patch14_224", **PRETRAINED)
    | named_sizes("eva02_{tiny,small}_patch14_336 eva02_{base,large}_patch14_448", rotary=True)
    | named_sizes("eva_giant_patch14_clip_224", **CLIP)
    | named_sizes("eva02_base_patch16_clip_224", **CLIP2, num_classes=512)
    | named_sizes("eva02_large_patch14_clip_{224,336}", **CLIP2, num_classes=768)
    | named_sizes("eva02_enormous_patch14_clip_224", **CLIP, post_norm=True)
)
FAMILY = Family("eva", "arXiv 2211.07636", eva, SIZES, {"timm": timm_eva_rules})
