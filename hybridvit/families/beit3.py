"""BEiT-3's image towers (arXiv 2208.10442): ViTs with one more norm in attention and MLP (2210.06423), mean-pooled."""

from ..components import Attention, LayerNorm, MeanPool, Mlp, Patchify, transformer_block
from ..layouts import timm_vit_rules
from ..trunks import WIDTHS, named_sizes, vit_model, vit_stage
from . import Family, Model, Sizes

NORM = LayerNorm(eps=1e-5)


def beit3(*, width: str, patch: int, img_size: int) -> Model:
    """A tower of a named width. The class token takes part, but the mean leaves it out."""
    of = WIDTHS[width]
    attention, mlp = Attention(heads=of.heads, norm=NORM), Mlp(hidden=of.hidden, norm=NORM)
    stage = vit_stage(enter=Patchify(dim=of.dim, patch=patch), width=of, block=transformer_block(attention, mlp, NORM))
    return vit_model(stage, MeanPool(post_norm=NORM), img_size)


SIZES: Sizes = named_sizes("beit3_{base,large}_patch16_224 beit3_giant_patch14_{224,336}")
FAMILY = Family(name="beit3", paper="arXiv 2208.10442", build=beit3, sizes=SIZES, layouts={"timm": timm_vit_rules})
