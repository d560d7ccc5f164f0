"""EfficientNet-Lite: EfficientNet (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6.

The convolutional control of the hybrids, and the stem of `lite_hybrid`. `tf_` models pad as TensorFlow does and have
its batch norm epsilon; the others pad symmetrically.
"""

import math

from .. import components as c
from . import Family, KeyRules, Model, Sizes, Stage, classifier, renames

STEM_WIDTH, EXPANSION, LAST_WIDTH = 32, 6, 1280
# Width, number of blocks, kernel, and stride of the first block, a stage, all at scale 1.
STAGES = ((16, 1, 3, 1), (24, 2, 3, 2), (40, 2, 5, 2), (80, 3, 3, 2), (112, 3, 5, 1), (192, 4, 5, 2), (320, 1, 3, 1))


def conv(dim: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, act: str | None = "relu6", tf: bool) -> c.Conv:
    """Convolution, batch norm and ReLU6. At stride 1 TensorFlow's padding is the symmetric one."""
    padding, norm = "same" if tf and stride > 1 else None, c.BatchNorm(eps=1e-3 if tf else 1e-5)
    return c.Conv(dim=dim, kernel=kernel, stride=stride, padding=padding, groups=groups, norm=norm, act=act)


def inverted_residual(in_dim: int, dim: int, kernel: int, stride: int = 1, *, tf: bool) -> c.Transition:
    """Expand, filter each channel, project without activation (arXiv 1801.04381)."""
    hidden = EXPANSION * in_dim
    filters = conv(hidden, kernel, stride=stride, groups=hidden, tf=tf)
    return c.Steps(steps=(conv(hidden, tf=tf), filters, conv(dim, act=None, tf=tf)))


def scaled_width(width: int, scale: float) -> int:
    """The multiple of 8 nearest to `scale * width`, and never more than a tenth below it."""
    exact = scale * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


def lite_stages(*, width: float = 1.0, depth: float = 1.0, tf: bool = False) -> tuple[Stage, ...]:
    """The seven stages, at strides 2, 4, 8, 16, 16, 32 and 32; depth scales all but the first and the last."""
    stages: list[Stage] = []
    for index, (base_dim, count, kernel, stride) in enumerate(STAGES):
        dim = scaled_width(base_dim, width)
        if index == 0:
            separable = (conv(STEM_WIDTH, kernel, groups=STEM_WIDTH, tf=tf), conv(dim, act=None, tf=tf))
            stages.append(Stage(enter=c.Steps(steps=(conv(STEM_WIDTH, 3, stride=2, tf=tf), *separable))))
        else:
            in_dim = stages[-1].enter.out_dim(0)
            block = c.residual_block(inverted_residual(dim, dim, kernel, tf=tf))
            repeats = (count if index == len(STAGES) - 1 else math.ceil(depth * count)) - 1
            stages.append(Stage(enter=inverted_residual(in_dim, dim, kernel, stride, tf=tf), blocks=(block,) * repeats))
    return tuple(stages)


def efficientnet_lite(*, width: float, depth: float, tf: bool) -> Model:
    """An EfficientNet-Lite with widths and depths scaled from Lite0."""
    stages = lite_stages(width=width, depth=depth, tf=tf)
    return classifier(stages, c.MeanPool(before=conv(LAST_WIDTH, tf=tf)))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout: the first block of a stage of theirs is the entrance of ours."""
    stem, block = "stages.0.enter.steps", "stages.{s}.blocks.{b}.branches.0.mixer.steps"
    steps = "conv_pw=0.conv bn1=0.norm conv_dw=1.conv bn2=1.norm conv_pwl=2.conv bn3=2.norm"
    rules = renames("", stem, "conv_stem=0.conv bn1=0.norm")
    rules += renames("blocks.0.0", stem, "conv_dw=1.conv bn1=1.norm conv_pw=2.conv bn2=2.norm")
    rules += renames("blocks.{s}.0", "stages.{s}.enter.steps", steps)
    rules += renames("blocks.{s}.{b+1}", block, steps)
    return KeyRules(rules, renames("", "", "conv_head=pool.before.conv bn2=pool.before.norm classifier=head"))


SCALES = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 300), (1.4, 1.8, 380))
SIZES: Sizes = {
    f"{prefix}efficientnet_lite{index}": {"width": width, "depth": depth, "img_size": img_size, "tf": bool(prefix)}
    for prefix in ("tf_", "")
    for index, (width, depth, img_size) in enumerate(SCALES)
}
FAMILY = Family("efficientnet_lite", "arXiv 1905.11946", efficientnet_lite, SIZES, {"timm": timm_rules})
