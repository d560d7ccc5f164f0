"""BEiT-3's image towers (arXiv 2208.10442): ViTs with one more norm in attention and MLP (2210.06423), mean-pooled."""

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import WIDTHS, named_sizes, vit_stage
from . import Family, Model, Sizes, classifier

NORM = c.LayerNorm(eps=1e-5)


def beit3(*, width: str, patch: int) -> Model:
    """A tower of a named width. The class token takes part, but the mean leaves it out."""
    of = WIDTHS[width]
    attention, mlp = c.Attention(heads=of.heads, norm=NORM), c.Mlp(hidden=of.hidden, norm=NORM)
    stage = vit_stage(enter=patch, width=of, attention=attention, mlp=mlp, norm=NORM)
    return classifier((stage,), c.MeanPool(post_norm=NORM))


SIZES: Sizes = named_sizes("beit3_{base,large}_patch16_224 beit3_giant_patch14_{224,336}")
FAMILY = Family("beit3", "arXiv 2208.10442", beit3, SIZES, {"timm": timm_vit_rules})
