"""EfficientNet-Lite0's first stages, then a ViT over their map: a hybrid of our own.

The stem is that of `tf_efficientnet_lite0` stage for stage, so its ImageNet weights are the stem's under equal names.
Its map takes the place of the patches, as in the hybrids of arXiv 2010.11929; the mean over the tokens is classified.
"""

from .. import components as c
from ..trunks import NORM, WIDTHS, vit_stage
from . import Family, Model, Sizes, classifier
from .efficientnet_lite import lite_stages


def lite_hybrid(*, width: str, depth: int, stem_stages: int) -> Model:
    """A ViT of a named width and `depth` blocks on the first `stem_stages` stages of EfficientNet-Lite0."""
    vit_width = WIDTHS[width]._replace(depth=depth)
    trunk = vit_stage(enter=c.Conv(dim=vit_width.dim, bias=True), width=vit_width, prefix=0)
    stages = (*lite_stages(tf=True)[:stem_stages], trunk)
    return classifier(stages, c.MeanPool(post_norm=NORM))


SIZES: Sizes = {
    "vit_tiny_lite0_s8_112": {"width": "tiny", "depth": 6, "stem_stages": 3, "img_size": 112},
    "vit_tiny_lite0_s16_224": {"width": "tiny", "depth": 6, "stem_stages": 5, "img_size": 224},
    "vit_small_lite0_s16_224": {"width": "small", "depth": 8, "stem_stages": 5, "img_size": 224},
}
FAMILY = Family("lite_hybrid", "arXiv 2010.11929", lite_hybrid, SIZES, {})
