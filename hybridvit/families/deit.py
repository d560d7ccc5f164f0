"""DeiT: ViT trained on ImageNet-1k alone, with a distillation token (arXiv 2012.12877); DeiT III (2204.07118)."""

from functools import partial

from ..components import DistilledHead, LearnedPosition, LinearHead, Patchify, TokenPool
from ..encoder import Model
from ..keys import Concat, KeyRules, Rename
from ..layouts import HEAD_RULES, TRANSFORMERS_FILES, TRANSFORMERS_V5, BlockNames, transformers_rules, trunk_rules
from ..trunks import NORM, WIDTHS, vit_stage
from . import Family, Sizes


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
    for name, distilled in (("deit", False), ("deit_distilled", True)):
        kind = name.removeprefix("deit")
        for width in ("tiny", "small", "base"):
            sizes[f"deit_{width}{kind}_patch16_224"] = {"width": width, "distilled": distilled}
        sizes[f"deit_base{kind}_patch16_384"] = {"width": "base", "distilled": distilled, "img_size": 384}
    deit3 = {"position_on_prefix": False, "layer_scale": 1e-6}
    for width in ("small", "medium", "base", "large"):
        sizes[f"deit3_{width}_patch16_224"] = {"width": width} | deit3
    for width in ("small", "base", "large"):
        sizes[f"deit3_{width}_patch16_384"] = {"width": width, "img_size": 384} | deit3
    sizes["deit3_huge_patch14_224"] = {"width": "huge", "patch": 14} | deit3
    return sizes


def timm_rules(model: Model) -> KeyRules:
    """As for ViT; a distilled model has a second token and a second classifier."""
    distilled = model.head == DistilledHead()
    prefix = "stages.0.prefix.tokens"
    return KeyRules(
        [
            Rename("patch_embed.proj", "stages.0.enter.conv"),
            Concat(("cls_token", "dist_token"), prefix, dim=1) if distilled else Rename("cls_token", prefix),
            Rename("head_dist", "head.distillation_token"),
            *([Rename("head", "head.class_token")] if distilled else []),
            *trunk_rules(),
            *HEAD_RULES,
        ]
    )


def transformers_layout(model: Model, names: BlockNames = TRANSFORMERS_FILES) -> KeyRules:
    """transformers' `deit`, or `vit` if the model is not distilled, as which its releases of those are."""
    if model.head != DistilledHead():
        return transformers_rules(model, names)
    return transformers_rules(
        model,
        names,
        base="deit",
        tokens=("cls_token", "distillation_token"),
        classifiers=(("cls_classifier", "head.class_token"), ("distillation_classifier", "head.distillation_token")),
    )


LAYOUTS = {
    "timm": timm_rules,
    "transformers": transformers_layout,
    "transformers-v5": partial(transformers_layout, names=TRANSFORMERS_V5),
}
FAMILY = Family(name="deit", paper="arXiv 2012.12877", build=deit, sizes=_sizes(), layouts=LAYOUTS)
