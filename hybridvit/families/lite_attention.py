"""EfficientNet-Lite0 with transformer blocks behind its stages of strides 16 and 32: a hybrid of our own.

The stages are those of `tf_efficientnet_lite0`, under equal names. A new block's layer scales (arXiv 2103.17239) start
near zero, so with ImageNet's weights the whole answers as those do, and training decides how far it attends.
"""

from .. import components as c
from ..trunks import NORM
from . import Family, Model, PerStage, Sizes, Stage, classifier
from .efficientnet_lite import LAST_WIDTH, conv, lite_stages


def attending(stage: Stage, depth: int, heads: int) -> Stage:
    """The stage with `depth` transformer blocks behind its own."""
    if not depth:
        return stage
    dim = stage.enter.out_dim(0)
    block = c.transformer_block(c.Attention(heads=heads), c.Mlp(hidden=2 * dim), NORM, layer_scale=1e-4)
    return stage.replace(blocks=(*stage.blocks, *(block,) * depth))


def lite_attention(*, depths: PerStage, heads: PerStage) -> Model:
    """Lite0 with so many transformer blocks, of so many attention heads, behind each stage."""
    stages = map(attending, lite_stages(tf=True), depths, heads)
    return classifier(stages, c.MeanPool(before=conv(LAST_WIDTH, tf=True)))


SIZES: Sizes = {"lite0_attention_224": {"depths": (0, 0, 0, 0, 1, 0, 2), "heads": (0, 0, 0, 0, 4, 0, 10)}}
FAMILY = Family("lite_attention", "arXiv 2010.11929", lite_attention, SIZES, {})
