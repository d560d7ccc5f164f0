"""CLIP's image towers: ViTs with a norm before the blocks, and no bias in the patches (arXiv 2103.00020).

OpenAI's, LAION's (2212.07143), MetaCLIP's (2309.16671), DFN's (2309.17425) and TinyCLIP's (2309.12314). The classifier
projects to the space that images share with texts. `quickgelu` names those with x * sigmoid(1.702 x) for GELU.
"""

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import WIDTHS, Width, named_sizes, vit_stage
from . import Family, Model, Sizes, classifier

WIDTHS = WIDTHS | {"xsmall": Width(256, 10, 4)}
NORM = c.LayerNorm(eps=1e-5)


def vit_clip(*, width: str, patch: int, act: str = "gelu") -> Model:
    """A tower of a named width."""
    of = WIDTHS[width]
    patches, mlp = c.Patchify(dim=of.dim, patch=patch, bias=False), c.Mlp(hidden=of.hidden, act=act)
    stage = vit_stage(enter=patches, width=of, pre_norm=NORM, mlp=mlp, norm=NORM)
    return classifier((stage,), c.TokenPool(norm=NORM))


QUICK = {"act": "quick_gelu"}
SIZES: Sizes = (
    named_sizes("vit_xsmall_patch16_clip_224 vit_medium_patch{32,16}_clip_224", num_classes=512)
    | named_sizes("vit_betwixt_patch32_clip_224 vit_base_patch32_clip_256", num_classes=512)
    | named_sizes("vit_base_patch32_clip_{224,384,448} vit_base_patch16_clip_{224,384}")
    | named_sizes("vit_large_patch14_clip_{224,336} vit_huge_patch14_clip_{224,336}")
    | named_sizes("vit_base_patch16_plus_clip_240", width="base_plus", num_classes=640)
    | named_sizes("vit_huge_patch14_clip_378 vit_giant_patch14_clip_224", num_classes=1024)
    | named_sizes("vit_gigantic_patch14_clip_{224,378}", num_classes=1280)
    | named_sizes("vit_base_patch{32,16}_clip_quickgelu_224", num_classes=512, **QUICK)
    | named_sizes("vit_large_patch14_clip_quickgelu_{224,336}", num_classes=768, **QUICK)
    | named_sizes("vit_huge_patch14_clip_quickgelu_{224,378}", num_classes=1024, **QUICK)
    | named_sizes("vit_gigantic_patch14_clip_quickgelu_224", num_classes=1280, **QUICK)
)
FAMILY = Family("vit_clip", "arXiv 2103.00020", vit_clip, SIZES, {"timm": timm_vit_rules})
