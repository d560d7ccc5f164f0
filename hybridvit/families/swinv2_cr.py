"""SwinV2 as Christoph Reich read the paper (arXiv 2111.09883) before its code was there; timm trained it.

Its bias of positions has no bounds, its keys have a bias, its merging a norm in front as Swin's; and the last block,
or that of every stage, ends with a norm of the sum, so the pool has none. timm's huge and giant, norms in the midst of
their stages, were never trained and are not here.
"""

from typing import Any

from ..components import Block, Branch, CosineAttention, LinearHead, MeanPool, RelativePositionMlp
from ..components.transitions import Normalize, Patchify, PatchMerging
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, Split
from . import Family, Sizes
from .swin import BASE, LARGE, NORM, OURS, SMALL, TINY, PerStage
from .swinv2 import ATTENTION, QKV, shifted_pair

LAST_NORM = Branch(mixer=Normalize(norm=NORM), residual=False)
LAST_STRIDE = 32  # one window is the whole map of the last stage


def swinv2_cr(*, dim: int, depths: PerStage, heads: PerStage, stage_norms: bool = False, img_size: int = 224) -> Model:
    """A SwinV2-CR of `dim` channels in its first stage, twice as many in each next; `img_size` sets the windows.

    With `stage_norms` every stage ends with a norm, else only the last.
    """
    stages: list[Stage] = []
    for number, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        width = dim * 2**number
        attention = CosineAttention(heads=count, bias=RelativePositionMlp(hidden=384))
        pair = shifted_pair(attention, width, img_size // LAST_STRIDE)
        enter = PatchMerging(dim=width, norm=NORM) if number else Patchify(dim=width, patch=4, norm=NORM)
        blocks = (pair * depth)[:depth]
        if stage_norms or number == len(depths) - 1:
            blocks = (*blocks[:-1], Block(branches=(*blocks[-1].branches, LAST_NORM)))
        stages.append(Stage(enter=enter, blocks=blocks))
    return Model(stages=tuple(stages), pool=MeanPool(), head=LinearHead(), img_size=(img_size, img_size))


NS: dict[str, Any] = {"stage_norms": True}
AT_384 = {"img_size": 384}
SIZES: Sizes = {
    "swinv2_cr_tiny_224": TINY,
    "swinv2_cr_tiny_384": TINY | AT_384,
    "swinv2_cr_tiny_ns_224": TINY | NS,
    "swinv2_cr_small_224": SMALL,
    "swinv2_cr_small_384": SMALL | AT_384,
    "swinv2_cr_small_ns_224": SMALL | NS,
    "swinv2_cr_small_ns_256": SMALL | NS | {"img_size": 256},
    "swinv2_cr_base_224": BASE,
    "swinv2_cr_base_384": BASE | AT_384,
    "swinv2_cr_base_ns_224": BASE | NS,
    "swinv2_cr_large_224": LARGE,
    "swinv2_cr_large_384": LARGE | AT_384,
}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block = "stages.{s}.blocks.{b}"
    return KeyRules(
        [
            Rename("patch_embed.proj", "stages.0.enter.conv"),
            Rename("patch_embed.norm", "stages.0.enter.norm"),
            Rename("stages.{s}.downsample", "stages.{s}.enter"),
            Split(f"{block}.attn.qkv", QKV),
            Rename(
                f"{block}.attn.logit_scale",
                f"{ATTENTION}.log_factor",
                lambda theirs: theirs[:, None, None],
                lambda ours: ours.flatten(),
            ),
            Rename(f"{block}.attn.meta_mlp", f"{ATTENTION}.bias"),
            Rename(f"{block}.attn.proj", f"{ATTENTION}.proj"),
            Rename(f"{block}.norm1", f"{OURS}.0.post_norm"),
            Rename(f"{block}.mlp", f"{OURS}.1.mixer"),
            Rename(f"{block}.norm2", f"{OURS}.1.post_norm"),
            Rename(f"{block}.norm3", f"{OURS}.2.mixer.norm"),
            Rename("head.fc", "head"),
        ]
    )


FAMILY = Family(name="swinv2_cr", paper="arXiv 2111.09883", build=swinv2_cr, sizes=SIZES, layouts={"timm": timm_rules})
