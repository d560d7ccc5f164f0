"""ViT_C: a ViT on a few strided convolutions instead of patches (arXiv 2106.14881).

Every convolution is 3 x 3 with batch norm and ReLU; those that widen have stride 2. A 1 x 1 convolution ends the stem,
and one transformer block fewer than in the ViT pays for it. The paper's authors released no weights; torchvision's
`VisionTransformer(conv_stem_configs=...)` is the same network.
"""

import itertools

from .. import components as c
from ..trunks import NORM, Width, vit_stage
from . import Family, Model, Sizes, Stage, classifier


def vit_c(*, stem: tuple[int, ...], dim: int, depth: int, heads: int, mlp_ratio: int = 4) -> Model:
    """A ViT of `depth` blocks whose stem has convolutions of the given widths: a stage for each stride."""
    stages: list[Stage] = []
    for width, run in itertools.groupby(stem):
        strides = (2, *(1 for _ in list(run)[1:]))
        convs = [c.Conv(dim=width, kernel=3, stride=stride, norm=c.BatchNorm(), act="relu") for stride in strides]
        stages.append(Stage(enter=c.Steps(steps=tuple(convs))))
    trunk = vit_stage(enter=1, width=Width(dim, depth, heads, mlp_ratio))
    return classifier((*stages, trunk), c.TokenPool(norm=NORM))


DEEP_STEM = (64, 128, 128, 256, 256, 512)
SIZES: Sizes = {
    "vitc_1gf": {"stem": (24, 48, 96, 192), "dim": 192, "depth": 11, "heads": 3, "mlp_ratio": 3},
    "vitc_4gf": {"stem": (48, 96, 192, 384), "dim": 384, "depth": 11, "heads": 6, "mlp_ratio": 3},
    "vitc_18gf": {"stem": DEEP_STEM, "dim": 768, "depth": 11, "heads": 12},
    "vitc_36gf": {"stem": DEEP_STEM, "dim": 1024, "depth": 13, "heads": 16},
}
FAMILY = Family("vit_c", "arXiv 2106.14881", vit_c, SIZES, {})
