"""DINOv3 (arXiv 2508.10104): ViTs with registers whose queries and keys are turned by their position in the image.

`_qkvb` models have biases of queries and values; those of timm's `_dinov3` models are 0 and left out. `lingbot` models
(2607.05247) are of the same kind, with their class token classified.
"""

from .. import components as c
from ..layouts import gated_rules, timm_eva_rules
from ..trunks import WIDTHS, Width, named_sizes, vit_stage
from . import Family, KeyRules, Model, Sizes, classifier

NORM, REGISTERS = c.LayerNorm(eps=1e-5), 4
WIDTHS = WIDTHS | {"huge": Width(1280, 32, 20), "giant": Width(1536, 40, 24, 8 / 3), "7b": Width(4096, 40, 32, 2)}


def dinov3(*, width: str, patch: int, bias: bool = False, gated: bool = False, token: bool = False) -> Model:
    """A DINOv3 of a named width. `gated` MLPs; biases of queries and values; the class token instead of the mean."""
    of = WIDTHS[width]
    attention = c.RotaryAttention(heads=of.heads, qkv_bias=bias, key_bias=not bias, rotary=c.CentredRotary())
    mlp = c.GatedMlp(hidden=of.hidden) if gated else c.Mlp(hidden=of.hidden)
    block = c.transformer_block(attention, mlp, NORM, layer_scale=1e-5)
    stage = vit_stage(enter=patch, width=of, prefix=1 + REGISTERS, position=c.NoPosition(), block=block)
    return classifier((stage,), c.TokenPool(norm=NORM) if token else c.MeanPool(norm=NORM), 256).replace(num_classes=0)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    return timm_eva_rules(model, first=gated_rules(model, packed=False))


LINGBOT = {"img_size": 512, "token": True}
SIZES: Sizes = (
    named_sizes("vit_{small,base,large}_patch16_dinov3")
    | named_sizes("vit_{tiny,small,base,large}_patch16_dinov3_qkvb", bias=True)
    | named_sizes("vit_small_plus_patch16_dinov3", width="small", gated=True)
    | named_sizes("vit_huge_plus_patch16_dinov3", width="huge", gated=True)
    | named_sizes("vit_small_plus_patch16_dinov3_qkvb", width="small", gated=True, bias=True)
    | named_sizes("vit_huge_plus_patch16_dinov3_qkvb", width="huge", gated=True, bias=True)
    | named_sizes("vit_7b_patch16_dinov3", gated=True)
    | named_sizes("vit_{small,base,large}_patch16_lingbot", bias=True, **LINGBOT)
    | named_sizes("vit_giant_patch16_lingbot", gated=True, **LINGBOT)
)
FAMILY = Family("dinov3", "arXiv 2508.10104", dinov3, SIZES, {"timm": timm_rules})
