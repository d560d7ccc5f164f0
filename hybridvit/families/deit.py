"""DeiT: ViT trained on ImageNet-1k alone, with a distillation token (arXiv 2012.12877); DeiT III (2204.07118)."""

from ..components import DistilledHead, LearnedPosition, LinearHead, Patchify, TokenPool
from ..keys import Concat
from ..layouts import HEAD_RULES, trunk_rules
from ..trunks import NORM, WIDTHS, named_sizes, vit_stage
from . import Family, KeyRules, Model, Rename, Sizes, renames


def deit(
    *,
    width: str,
    patch: int = 16,
    img_size: int = 224,
    distilled: bool = False,
    position_on_prefix: bool = True,
    layer_scale: float | None = None,
) -> Model:
    """A DeiT of a named width. `distilled` adds the second token, with a classifier of its own."""
    tokens = 2 if distilled else 1
    stage = vit_stage(
        enter=Patchify(dim=WIDTHS[width].dim, patch=patch),
        width=WIDTHS[width],
        prefix=tokens,
        position=LearnedPosition(on_prefix=position_on_prefix),
        layer_scale=layer_scale,
    )
    return Model(
        stages=(stage,),
        pool=TokenPool(norm=NORM, tokens=tokens),
        head=DistilledHead() if distilled else LinearHead(),
        img_size=(img_size, img_size),
    )


def _sizes() -> Sizes:
    sizes: Sizes = {}
    for kind, distilled in (("", False), ("_distilled", True)):
        for width in ("tiny", "small", "base"):
            sizes[f"deit_{width}{kind}_patch16_224"] = {"width": width, "distilled": distilled}
        sizes[f"deit_base{kind}_patch16_384"] = {"width": "base", "distilled": distilled, "img_size": 384}
    names = "small_patch16_224 medium_patch16_224 base_patch16_224 large_patch16_224 "
    names += "small_patch16_384 base_patch16_384 large_patch16_384 huge_patch14_224"
    third = named_sizes(names, position_on_prefix=False, layer_scale=1e-6)
    return sizes | {f"deit3_{name}": size for name, size in third.items()}


def timm_rules(model: Model) -> KeyRules:
    """As for ViT; a distilled model has a second token and a second classifier."""
    distilled = model.head == DistilledHead()
    tokens = ("cls_token", "dist_token")[: 1 + distilled]
    heads = renames("", "head", "head_dist=distillation_token head=class_token") if distilled else []
    first = [Rename("patch_embed.proj", "stages.0.enter.conv"), Concat(tokens, "stages.0.prefix.tokens", dim=1)]
    return KeyRules(first, heads, trunk_rules(), HEAD_RULES)


LAYOUTS = {"timm": timm_rules}
FAMILY = Family(name="deit", paper="arXiv 2012.12877", build=deit, sizes=_sizes(), layouts=LAYOUTS)
