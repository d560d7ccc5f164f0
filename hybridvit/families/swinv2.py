"""SwinV2: Swin with cosine attention, norms after the branches and a continuous bias of positions (arXiv 2111.09883).

Maps that the windows do not divide are padded and shifted as in `swin`.
"""

from .. import components as c
from . import Family, KeyRules, Model, PerStage, Sizes, Split, Stage, classifier, renames
from .swin import ATTENTION, BASE, LARGE, NORM, OURS, SMALL, TINY, shifted_pair, within_map

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
    """A SwinV2 of the numbers of a Swin; `trained_windows` are those of weights that were fine-tuned with others."""
    stages: list[Stage] = []
    sides = tuple(within_map(window, index, img_size) for index, window in enumerate(windows))
    numbers = zip(depths, heads, sides, trained_windows or sides, strict=True)
    for index, (depth, count, window, before) in enumerate(numbers):
        width = dim * 2**index
        bias = c.ContinuousPositionBias(trained=(before, before))
        pair = shifted_pair(c.CosineAttention(heads=count, key_bias=False, bias=bias), width, window, behind=True)
        merge = c.Steps(steps=(c.PatchMerging(dim=width), c.Normalize(norm=NORM)))
        enter = merge if index else c.Patchify(dim=width, patch=4, norm=NORM)
        stages.append(Stage(enter=enter, blocks=(pair * depth)[:depth]))
    return classifier(stages, c.MeanPool(norm=NORM), 256)


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
        constants=[f"{block}.{name}" for name in constants],
    )


WINDOW_12, TRAINED = {"windows": (12, 12, 12, 12), "img_size": 192}, {"trained_windows": (12, 12, 12, 6)}
TO_16 = TRAINED | {"windows": (16, 16, 16, 16), "img_size": 256}
TO_24 = TRAINED | {"windows": (24, 24, 24, 24), "img_size": 384}
SIZES: Sizes = {
    f"swinv2_{name}_window{side}_256": numbers | {"windows": (side, side, side, side), "img_size": 256}
    for name, numbers in (("tiny", TINY), ("small", SMALL), ("base", BASE))
    for side in (8, 16)
} | {
    f"swinv2_{name}_window12{sizes}": numbers | windows
    for name, numbers in (("base", BASE), ("large", LARGE))
    for sizes, windows in (("_192", WINDOW_12), ("to16_192to256", TO_16), ("to24_192to384", TO_24))
}
FAMILY = Family("swinv2", "arXiv 2111.09883", swinv2, SIZES, {"timm": timm_rules})
