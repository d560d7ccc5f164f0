"""SwinV2 as Christoph Reich read the paper (arXiv 2111.09883) before its code was there; timm trained it.

Its bias of positions has no bounds, its keys have a bias, its merging a norm in front as Swin's; and the last block,
or that of every stage, ends with a norm of the sum, so the pool has none. timm's huge and giant, norms in the midst of
their stages, were never trained and are not here.
"""

from .. import components as c
from . import Family, KeyRules, Model, PerStage, Rename, Sizes, Split, Stage, classifier, renames
from .swin import BASE, LARGE, NORM, OURS, SMALL, TINY, shifted_pair
from .swinv2 import ATTENTION, QKV

LAST_NORM = c.Branch(mixer=c.Normalize(norm=NORM), residual=False)
LAST_STRIDE = 32  # one window is the whole map of the last stage


def swinv2_cr(*, dim: int, depths: PerStage, heads: PerStage, stage_norms: bool = False, img_size: int = 224) -> Model:
    """A SwinV2-CR of `dim` channels in its first stage, twice as many in each next; `img_size` sets the windows.

    With `stage_norms` every stage ends with a norm, else only the last.
    """
    stages: list[Stage] = []
    for number, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        width = dim * 2**number
        attention = c.CosineAttention(heads=count, bias=c.RelativePositionMlp(hidden=384))
        pair = shifted_pair(attention, width, img_size // LAST_STRIDE, behind=True)
        enter = c.PatchMerging(dim=width, norm=NORM) if number else c.Patchify(dim=width, patch=4, norm=NORM)
        blocks = (pair * depth)[:depth]
        if stage_norms or number == len(depths) - 1:
            blocks = (*blocks[:-1], c.Block(branches=(*blocks[-1].branches, LAST_NORM)))
        stages.append(Stage(enter=enter, blocks=blocks))
    return classifier(stages, c.MeanPool(), img_size)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block = "stages.{s}.blocks.{b}"
    theirs, ours = f"{block}.attn.logit_scale", f"{ATTENTION}.log_factor"
    factor = Rename(theirs, ours, lambda vector: vector[:, None, None], lambda factors: factors.flatten())
    rules = renames("patch_embed", "stages.0.enter", "proj=conv norm")
    rules += renames("", "", "stages.{s}.downsample=stages.{s}.enter head.fc=head")
    rules += [Split(f"{block}.attn.qkv", QKV), factor, *renames(f"{block}.attn", ATTENTION, "meta_mlp=bias proj")]
    rules += renames(block, OURS, "norm1=0.post_norm mlp=1.mixer norm2=1.post_norm norm3=2.mixer.norm")
    return KeyRules(rules)


SIZES: Sizes = {
    f"swinv2_cr_{name}_{img_size}": numbers | {"stage_norms": name.endswith("_ns"), "img_size": img_size}
    for name, numbers, sizes in (
        ("tiny", TINY, (224, 384)),
        ("tiny_ns", TINY, (224,)),
        ("small", SMALL, (224, 384)),
        ("small_ns", SMALL, (224, 256)),
        ("base", BASE, (224, 384)),
        ("base_ns", BASE, (224,)),
        ("large", LARGE, (224, 384)),
    )
    for img_size in sizes
}
FAMILY = Family("swinv2_cr", "arXiv 2111.09883", swinv2_cr, SIZES, {"timm": timm_rules})
