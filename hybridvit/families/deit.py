"""DeiT: ViT trained on ImageNet-1k alone, with a distillation token (arXiv 2012.12877); DeiT III (2204.07118)."""

from .. import components as c
from ..layouts import HEAD_RULES, trunk_rules
from ..trunks import NORM, WIDTHS, named_sizes, vit_stage
from . import Concat, Family, KeyRules, Model, Rename, Sizes, classifier, renames


def deit(*, width: str, patch: int, distilled: bool = False, third: bool = False) -> Model:
    """A DeiT of a named width, or a DeiT III. `distilled` adds the second token, with a classifier of its own."""
    of, tokens = WIDTHS[width], 1 + distilled
    position, scale = c.LearnedPosition(on_prefix=not third), 1e-6 if third else None
    stage = vit_stage(enter=patch, width=of, prefix=tokens, position=position, layer_scale=scale)
    head = c.DistilledHead() if distilled else c.LinearHead()
    return classifier((stage,), c.TokenPool(norm=NORM, tokens=tokens), head=head)


def timm_rules(model: Model) -> KeyRules:
    """As for ViT; a distilled model has a second token and a second classifier."""
    distilled = model.head == c.DistilledHead()
    tokens = ("cls_token", "dist_token")[: 1 + distilled]
    heads = renames("", "head", "head_dist=distillation_token head=class_token") if distilled else []
    first = [Rename("patch_embed.proj", "stages.0.enter.conv"), Concat(tokens, "stages.0.prefix.tokens", dim=1)]
    return KeyRules(first, heads, trunk_rules(), HEAD_RULES)


SIZES: Sizes = (
    named_sizes("deit_{tiny,small,base}_patch16_224 deit_base_patch16_384")
    | named_sizes("deit_tiny_distilled_patch16_224", width="tiny", distilled=True)
    | named_sizes("deit_small_distilled_patch16_224", width="small", distilled=True)
    | named_sizes("deit_base_distilled_patch16_{224,384}", width="base", distilled=True)
    | named_sizes("deit3_{small,medium,base,large}_patch16_224 deit3_{small,base,large}_patch16_384", third=True)
    | named_sizes("deit3_huge_patch14_224", third=True)
)
FAMILY = Family("deit", "arXiv 2012.12877", deit, SIZES, {"timm": timm_rules})
