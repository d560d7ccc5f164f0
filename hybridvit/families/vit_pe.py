"""Perception Encoder (arXiv 2504.13181): ViTs with absolute positions, and queries and keys turned by position.

`core` models are pooled by attention; `lang` and `spatial` ones end with a layer in their middle, without a norm.
"""

from .. import components as c
from ..layouts import timm_eva_rules
from ..trunks import WIDTHS, Width, named_sizes, vit_stage
from . import Family, KeyRules, Model, Sizes, classifier

NORM = c.LayerNorm(eps=1e-5)
WIDTHS = WIDTHS | {"gigantic": Width(1536, 50, 16, 8960 / 1536)}
WIDTHS |= {"lang_large": Width(1024, 23, 16), "lang_gigantic": Width(1536, 47, 16, 8960 / 1536)}


def vit_pe(
    *, width: str, patch: int, reference: int = 32, layer_scale: float | None = None, num_classes: int = 0
) -> Model:
    """A Perception Encoder of a named width, pretrained on a grid of `reference` positions a side.

    With classes it is pooled by attention. The widest has no class token.
    """
    of, prefix = WIDTHS[width], int("gigantic" not in width)
    # Where there is a class token, positions count from it.
    rotary = c.IndexRotary(reference=(reference, reference), first=prefix, columns_first=True)
    attention, mlp = c.RotaryAttention(heads=of.heads, rotary=rotary), c.Mlp(hidden=of.hidden)
    patches = c.Patchify(dim=of.dim, patch=patch, bias=False)
    block = c.transformer_block(attention, mlp, NORM, layer_scale)
    stage = vit_stage(enter=patches, width=of, prefix=prefix, pre_norm=NORM, block=block)
    attention_pool = c.AttentionPool(heads=8, mlp=c.Mlp(hidden=4 * of.dim), norm=NORM, prefix=True)
    return classifier((stage,), attention_pool if num_classes else c.MeanPool()).replace(num_classes=num_classes)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    return timm_eva_rules(model, class_token=model.stages[0].prefix > 0)


SIZES: Sizes = (
    named_sizes("vit_pe_core_{tiny,small}_patch16_384", reference=24, num_classes=512)
    | named_sizes("vit_pe_core_base_patch16_224", reference=14, num_classes=1024)
    | named_sizes("vit_pe_core_large_patch14_336", reference=24, num_classes=1024)
    | named_sizes("vit_pe_core_gigantic_patch14_448", num_classes=1280)
    | named_sizes("vit_pe_lang_large_patch14_448", width="lang_large", layer_scale=0.1)
    | named_sizes("vit_pe_lang_gigantic_patch14_448", width="lang_gigantic", layer_scale=0.1)
    | named_sizes("vit_pe_spatial_{tiny,small,base}_patch16_512 vit_pe_spatial_large_patch14_448")
    | named_sizes("vit_pe_spatial_gigantic_patch14_448", layer_scale=0.1)
)
FAMILY = Family("vit_pe", "arXiv 2504.13181", vit_pe, SIZES, {"timm": timm_rules})
