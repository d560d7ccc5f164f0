"""SigLIP's image towers (arXiv 2303.15343, 2502.14786): ViTs without a class token, pooled by attention.

`gap` names the same towers, pooled by their mean, as PaliGemma (2407.07726) has them. Those of patch 14 for images of
384 pixels are of the first release, which leaves out the 6 pixels that fill no patch.
"""

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_stage
from . import Family, KeyRules, Model, Sizes, classifier

WIDTHS = WIDTHS | {"giantopt": Width(1536, 40, 16)}


def vit_siglip(*, width: str, patch: int, act: str = "gelu", attends: bool = True, whole: bool = False) -> Model:
    """A tower of a named width. Its pool `attends`, or is the mean; `whole`: what fills no patch is left out."""
    of = WIDTHS[width]
    mlp = c.Mlp(hidden=of.hidden, act=act)
    cut = c.Conv(dim=of.dim, kernel=patch, stride=patch, padding=0, bias=True)
    stage = vit_stage(enter=cut if whole else patch, width=of, prefix=0, mlp=mlp)
    pool = c.AttentionPool(heads=of.heads, mlp=mlp, norm=NORM) if attends else c.MeanPool(norm=NORM)
    return classifier((stage,), pool).replace(num_classes=0)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout. A tower that does without its attention pool may still carry it."""
    dropped = () if model.pool.kind == c.AttentionPool.kind else ("attn_pool",)
    return timm_vit_rules(model, class_token=False, dropped=dropped)


SIZES: Sizes = (
    named_sizes("vit_base_patch16_siglip_{224,256,384,512} vit_large_patch16_siglip_{256,384}")
    | named_sizes("vit_so400m_patch14_siglip_{224,378}")
    | named_sizes("vit_so400m_patch14_siglip_384", whole=True)
    | named_sizes("vit_base_patch32_siglip_256 vit_large_patch16_siglip_512", act="gelu_tanh")
    | named_sizes("vit_so400m_patch16_siglip_{256,384,512} vit_giantopt_patch16_siglip_{256,384}", act="gelu_tanh")
)
POOLED = {name.replace("_siglip_", "_siglip_gap_"): size for name, size in SIZES.items()}
POOLED |= named_sizes("vit_so400m_patch14_siglip_gap_{448,896}")
SIZES |= {name: size | {"attends": False} for name, size in POOLED.items()}
FAMILY = Family("vit_siglip", "arXiv 2303.15343", vit_siglip, SIZES, {"timm": timm_rules})
