"""DINOv3 (arXiv 2508.10104): ViTs with registers whose queries and keys are turned by their position in the image.

`_qkvb` models have biases of queries and values; those of timm's `_dinov3` models are 0 and left out. `lingbot` models
(2607.05247) are of the same kind, with their class token classified.
"""

from ..components import CentredRotary, GatedMlp, LayerNorm, Mlp, NoPosition, Patchify, RotaryAttention
from ..components.blocks import transformer_block
from ..components.pools import MeanPool, TokenPool
from ..encoder import Model
from ..keys import KeyRules
from ..layouts import gated_rules, timm_eva_rules
from ..trunks import WIDTHS, Width, named_sizes, vit_model, vit_stage
from . import Family, Sizes

NORM = LayerNorm(eps=1e-5)
REGISTERS = 4
WIDTHS = WIDTHS | {
    "huge": Width(1280, 32, 20),
    "giant": Width(1536, 40, 24, 8 / 3),
    "7b": Width(4096, 40, 32, 2),
}


def dinov3(
    *, width: str, patch: int, img_size: int = 256, bias: bool = False, gated: bool = False, token: bool = False
) -> Model:
    """A DINOv3 of a named width. `gated` MLPs; biases of queries and values; the class token instead of the mean."""
    of = WIDTHS[width]
    attention = RotaryAttention(heads=of.heads, qkv_bias=bias, key_bias=not bias, rotary=CentredRotary())
    mlp = GatedMlp(hidden=of.hidden) if gated else Mlp(hidden=of.hidden)
    stage = vit_stage(
        enter=Patchify(dim=of.dim, patch=patch),
        width=of,
        prefix=1 + REGISTERS,
        position=NoPosition(),
        block=transformer_block(attention, mlp, NORM, layer_scale=1e-5),
    )
    return vit_model(stage, TokenPool(norm=NORM) if token else MeanPool(norm=NORM), img_size, num_classes=0)


def _sizes() -> Sizes:
    plain, gated = ("small", "base", "large"), ("small", "huge")
    names = [f"vit_{width}_patch16_dinov3" for width in plain]
    lingbot = {"img_size": 512, "token": True}
    return (
        named_sizes(" ".join(names))
        | named_sizes(" ".join(f"{name}_qkvb" for name in ["vit_tiny_patch16_dinov3", *names]), bias=True)
        | {f"vit_{width}_plus_patch16_dinov3": {"width": width, "patch": 16, "gated": True} for width in gated}
        | {
            f"vit_{width}_plus_patch16_dinov3_qkvb": {"width": width, "patch": 16, "gated": True, "bias": True}
            for width in gated
        }
        | {"vit_7b_patch16_dinov3": {"width": "7b", "patch": 16, "gated": True}}
        | named_sizes(" ".join(f"vit_{width}_patch16_lingbot" for width in plain), bias=True, **lingbot)
        | named_sizes("vit_giant_patch16_lingbot", gated=True, **lingbot)
    )


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    gated = isinstance(model.stages[0].blocks[0].branches[1].mixer, GatedMlp)
    return timm_eva_rules(model, first=gated_rules(model, packed=False) if gated else ())


FAMILY = Family(name="dinov3", paper="arXiv 2508.10104", build=dinov3, sizes=_sizes(), layouts={"timm": timm_rules})
