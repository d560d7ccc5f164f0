"""Swin: attention inside windows that shift in every second block (arXiv 2103.14030); S3, found by search (2111.14725).

Maps that the windows do not divide are padded and then shifted, as in transformers and in Microsoft's detector. timm
shifts first; there, a padded map's opposite borders see each other.
"""

from .. import components as c
from . import Family, KeyRules, Model, Numbers, PerStage, Sizes, Stage, classifier, renames

NORM = c.LayerNorm(eps=1e-5)
OURS = "stages.{s}.blocks.{b}.branches"
ATTENTION = f"{OURS}.0.mixer.attention"


def within_map(window: int, stage: int, img_size: int | None) -> int:
    """The side of a window that is no larger than the map of a stage, if the size of the images is given."""
    return window if img_size is None else min(window, -(-img_size // (4 << stage)))


def shifted_pair(attention: c.Transition, dim: int, window: int, behind: bool = False) -> tuple[c.Block, ...]:
    """Two blocks, of which the second shifts its windows. Norms are in front of their branches, or `behind`."""
    windows = c.WindowAttention(attention=attention, window=(window, window))
    mixers = windows, windows.replace(shift=(window // 2, window // 2))
    norm, post_norm = (None, NORM) if behind else (NORM, None)
    return tuple(c.residual_block(mixer, c.Mlp(hidden=4 * dim), norm=norm, post_norm=post_norm) for mixer in mixers)


def swin(*, dim: int, depths: PerStage, heads: PerStage, windows: PerStage, img_size: int | None = None) -> Model:
    """A Swin of `dim` channels first, twice as many in each next stage. With `img_size` no window exceeds its map."""
    stages: list[Stage] = []
    for index, (depth, count, window) in enumerate(zip(depths, heads, windows, strict=True)):
        width, side = dim * 2**index, within_map(window, index, img_size)
        enter = c.PatchMerging(dim=width, norm=NORM) if index else c.Patchify(dim=width, patch=4, norm=NORM)
        pair = shifted_pair(c.Attention(heads=count, bias=c.RelativePositionBias()), width, side)
        stages.append(Stage(enter=enter, blocks=(pair * depth)[:depth]))
    return classifier(stages, c.MeanPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout. Old files hold what follows from windows too."""
    block = "layers.{s}.blocks.{b}"
    return KeyRules(
        renames("", "", "patch_embed.proj=stages.0.enter.conv patch_embed.norm=stages.0.enter.norm"),
        renames("", "", "layers.{s}.downsample=stages.{s}.enter norm=pool.norm head.fc=head"),
        renames(f"{block}.attn", ATTENTION, "relative_position_bias_table=bias.table qkv proj"),
        renames(block, OURS, "norm1=0.norm norm2=1.norm mlp=1.mixer"),
        constants=[f"{block}.attn.relative_position_index", f"{block}.attn_mask"],
    )


TINY: Numbers = {"dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
SMALL = TINY | {"depths": (2, 2, 18, 2)}
BASE = SMALL | {"dim": 128, "heads": (4, 8, 16, 32)}
LARGE = SMALL | {"dim": 192, "heads": (6, 12, 24, 48)}
AT_224, AT_384 = {"windows": (7, 7, 7, 7)}, {"windows": (12, 12, 12, 12), "img_size": 384}
SIZES: Sizes = {
    "swin_tiny_patch4_window7_224": TINY | AT_224,
    "swin_small_patch4_window7_224": SMALL | AT_224,
    "swin_base_patch4_window7_224": BASE | AT_224,
    "swin_base_patch4_window12_384": BASE | AT_384,
    "swin_large_patch4_window7_224": LARGE | AT_224,
    "swin_large_patch4_window12_384": LARGE | AT_384,
    "swin_s3_tiny_224": TINY | {"windows": (7, 7, 14, 7)},
    "swin_s3_small_224": SMALL | {"windows": (14, 14, 14, 7)},
    "swin_s3_base_224": TINY | {"depths": (2, 2, 30, 2), "windows": (7, 7, 14, 7)},
}
FAMILY = Family("swin", "arXiv 2103.14030", swin, SIZES, {"timm": timm_rules})
