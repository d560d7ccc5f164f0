"""AIMv2 (arXiv 2411.14402): ViTs without a class token, with root-mean-square norms, gated MLPs and few biases.

The patches are normalised before their positions are added.
"""

from .. import components as c
from ..layouts import gated_rules, timm_vit_rules
from ..trunks import Width, named_sizes, vit_stage
from . import Family, KeyRules, Model, Rename, Sizes, classifier

WIDTHS = {"large": Width(1024, 24, 8, 2816 / 1024), "huge": Width(1536, 24, 12, 4096 / 1536)}
WIDTHS |= {"1b": Width(2048, 24, 16, 5632 / 2048), "3b": Width(3072, 24, 24, 8192 / 3072)}
NORM = c.RmsNorm(eps=1e-5)


def aimv2(*, width: str, patch: int) -> Model:
    """An AIMv2 of a named width."""
    of = WIDTHS[width]
    attention = c.Attention(heads=of.heads, qkv_bias=False, proj_bias=False)
    block = c.transformer_block(attention, c.GatedMlp(hidden=of.hidden, bias=False), NORM)
    stage = vit_stage(enter=c.Patchify(dim=of.dim, patch=patch, norm=NORM), width=of, prefix=0, block=block)
    return classifier((stage,), c.MeanPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    first = [Rename("patch_embed.norm", "stages.0.enter.norm"), *gated_rules(model, packed=False)]
    return timm_vit_rules(model, class_token=False, first=first)


SIZES: Sizes = named_sizes("aimv2_{large,huge,1b,3b}_patch14_{224,336,448}", num_classes=0)
FAMILY = Family("aimv2", "arXiv 2411.14402", aimv2, SIZES, {"timm": timm_rules})
