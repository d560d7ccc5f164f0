"""SwinV2: Swin with cosine attention, norms after the branches and a continuous bias of positions (arXiv 2111.09883).

Maps that the windows do not divide are padded and shifted as in `swin`.
"""

from ..components import ContinuousPositionBias, CosineAttention, MeanPool, Normalize, Patchify, PatchMerging, Steps
from ..keys import Split
from . import Family, KeyRules, Model, PerStage, Sizes, Stage, classifier, renames
from .swin import ATTENTION, BASE, LARGE, NORM, OURS, SMALL, TINY, differs_in_timm, shifted_pair, within_map

QKV = [f"{ATTENTION}.{part}" for part in ("query", "key", "value")]


def swinv2(
    *,
    dim: int,
    depths: PerStage,
    heads: PerStage,
    windows: PerStage,
    trained_windows: PerStage | None = None,
    img_size: int | None = None,
) -> Model:
    """A SwinV2 of `dim` channels in its first stage, twice as many in each next, with square windows of given sides.

    `trained_windows` are those of the weights that were then fine-tuned with others. With `img_size` no window is
    larger than the map.
    """
    stages: list[Stage] = []
    sides = tuple(within_map(window, index, img_size) for index, window in enumerate(windows))
    numbers = zip(depths, heads, sides, trained_windows or sides, strict=True)
    for index, (depth, count, window, trained) in enumerate(numbers):
        width = dim * 2**index
        bias = ContinuousPositionBias(trained=(trained, trained))
        pair = shifted_pair(CosineAttention(heads=count, key_bias=False, bias=bias), width, window, post_norm=NORM)
        merge = Steps(steps=(PatchMerging(dim=width), Normalize(norm=NORM)))
        enter = merge if index else Patchify(dim=width, patch=4, norm=NORM)
        stages.append(Stage(enter=enter, blocks=(pair * depth)[:depth]))
    return classifier(stages, MeanPool(norm=NORM), 256)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout. Old files hold what follows from windows too."""
    block = "layers.{s}.blocks.{b}"
    constants = ("attn_mask", "attn.relative_position_index", "attn.relative_coords_table")
    biases = "q_bias=query.bias v_bias=value.bias cpb_mlp.0=bias.fc1 cpb_mlp.2=bias.fc2"
    return KeyRules(
        renames("", "", "patch_embed.proj=stages.0.enter.conv patch_embed.norm=stages.0.enter.norm"),
        renames("", "", "norm=pool.norm head.fc=head"),
        Split(f"{block}.attn.qkv", QKV),
        renames(f"{block}.attn", ATTENTION, f"{biases} logit_scale=log_factor proj"),
        renames(block, OURS, "norm1=0.post_norm norm2=1.post_norm mlp=1.mixer"),
        renames("layers.{s}.downsample", "stages.{s}.enter.steps", "reduction=0.reduction norm=1.norm"),
        dropped=[f"{block}.{name}" for name in constants],
    )


WINDOW_8 = {"windows": (8, 8, 8, 8), "img_size": 256}
WINDOW_16 = {"windows": (16, 16, 16, 16), "img_size": 256}
WINDOW_12 = {"windows": (12, 12, 12, 12), "img_size": 192}
TO_16 = WINDOW_16 | {"trained_windows": (12, 12, 12, 6)}
TO_24 = {"windows": (24, 24, 24, 24), "trained_windows": (12, 12, 12, 6), "img_size": 384}
SIZES: Sizes = {
    "swinv2_tiny_window8_256": TINY | WINDOW_8,
    "swinv2_tiny_window16_256": TINY | WINDOW_16,
    "swinv2_small_window8_256": SMALL | WINDOW_8,
    "swinv2_small_window16_256": SMALL | WINDOW_16,
    "swinv2_base_window8_256": BASE | WINDOW_8,
    "swinv2_base_window16_256": BASE | WINDOW_16,
    "swinv2_base_window12_192": BASE | WINDOW_12,
    "swinv2_base_window12to16_192to256": BASE | TO_16,
    "swinv2_base_window12to24_192to384": BASE | TO_24,
    "swinv2_large_window12_192": LARGE | WINDOW_12,
    "swinv2_large_window12to16_192to256": LARGE | TO_16,
    "swinv2_large_window12to24_192to384": LARGE | TO_24,
}
FAMILY = Family("swinv2", "arXiv 2111.09883", swinv2, SIZES, {"timm": timm_rules}, differs_in_timm=differs_in_timm)
