"""EfficientNet-Lite: EfficientNet (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6.

The convolutional control of the hybrids, and the stem of `lite_hybrid`. `tf_` models pad as TensorFlow does and have
its batch norm epsilon; the others pad symmetrically.
"""

import math

from ..components import BatchNorm, Block, Branch, Conv, LinearHead, MeanPool, Steps
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename
from ..spec import Transition
from . import Family, Sizes

STEM_WIDTH, EXPANSION, LAST_WIDTH = 32, 6, 1280
# Width, number of blocks, kernel, and stride of the first block, a stage, all at scale 1.
STAGES = ((16, 1, 3, 1), (24, 2, 3, 2), (40, 2, 5, 2), (80, 3, 3, 2), (112, 3, 5, 1), (192, 4, 5, 2), (320, 1, 3, 1))


def conv(dim: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, act: str | None = "relu6", tf: bool) -> Conv:
    """Convolution, batch norm and ReLU6. At stride 1 TensorFlow's padding is the symmetric one."""
    return Conv(
        dim=dim,
        kernel=kernel,
        stride=stride,
        padding="same" if tf and stride > 1 else None,
        groups=groups,
        norm=BatchNorm(eps=1e-3 if tf else 1e-5),
        act=act,
    )


def inverted_residual(in_dim: int, dim: int, kernel: int, stride: int = 1, *, tf: bool) -> Transition:
    """Expand, filter each channel, project without activation (arXiv 1801.04381)."""
    hidden = EXPANSION * in_dim
    return Steps(
        steps=(
            conv(hidden, tf=tf),
            conv(hidden, kernel, stride=stride, groups=hidden, tf=tf),
            conv(dim, act=None, tf=tf),
        )
    )


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
            stages.append(Stage(enter=Steps(steps=(conv(STEM_WIDTH, 3, stride=2, tf=tf), *separable))))
        else:
            in_dim = stages[-1].enter.out_dim(0)
            block = Block(branches=(Branch(mixer=inverted_residual(dim, dim, kernel, tf=tf)),))
            repeats = (count if index == len(STAGES) - 1 else math.ceil(depth * count)) - 1
            stages.append(Stage(enter=inverted_residual(in_dim, dim, kernel, stride, tf=tf), blocks=(block,) * repeats))
    return tuple(stages)


def efficientnet_lite(*, width: float, depth: float, img_size: int, tf: bool) -> Model:
    """An EfficientNet-Lite with widths and depths scaled from Lite0."""
    return Model(
        stages=lite_stages(width=width, depth=depth, tf=tf),
        pool=MeanPool(before=conv(LAST_WIDTH, tf=tf)),
        head=LinearHead(),
        img_size=(img_size, img_size),
    )


def _sizes() -> Sizes:
    scales = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 300), (1.4, 1.8, 380))
    return {
        f"{prefix}efficientnet_lite{index}": {"width": width, "depth": depth, "img_size": img_size, "tf": bool(prefix)}
        for prefix in ("tf_", "")
        for index, (width, depth, img_size) in enumerate(scales)
    }


def _conv_rules(conv: str, norm: str, ours: str) -> list[Rename]:
    return [Rename(conv, f"{ours}.conv"), Rename(norm, f"{ours}.norm")]


def timm_rules(model: Model) -> KeyRules:
    """timm's layout: the first block of a stage of theirs is the entrance of ours."""
    rules = [
        *_conv_rules("conv_stem", "bn1", "stages.0.enter.steps.0"),
        *_conv_rules("blocks.0.0.conv_dw", "blocks.0.0.bn1", "stages.0.enter.steps.1"),
        *_conv_rules("blocks.0.0.conv_pw", "blocks.0.0.bn2", "stages.0.enter.steps.2"),
    ]
    for theirs, ours in (
        ("blocks.{s}.0", "stages.{s}.enter"),
        ("blocks.{s}.{b+1}", "stages.{s}.blocks.{b}.branches.0.mixer"),
    ):
        for step, name in enumerate(("conv_pw", "conv_dw", "conv_pwl")):
            rules += _conv_rules(f"{theirs}.{name}", f"{theirs}.bn{step + 1}", f"{ours}.steps.{step}")
    return KeyRules([*rules, *_conv_rules("conv_head", "bn2", "pool.before"), Rename("classifier", "head")])


def efficientnet_pytorch_rules(model: Model) -> KeyRules:
    """The layout of the efficientnet_pytorch package, which numbers the blocks of all stages through."""
    rules = _conv_rules("_conv_stem", "_bn0", "stages.0.enter.steps.0")
    ours = [
        place
        for s, stage in enumerate(model.stages)
        for place in (
            f"stages.{s}.enter",
            *(f"stages.{s}.blocks.{b}.branches.0.mixer" for b in range(len(stage.blocks))),
        )
    ]
    for index, place in enumerate(ours):
        for step, name in enumerate(("expand", "depthwise", "project")):
            rules += _conv_rules(f"_blocks.{index}._{name}_conv", f"_blocks.{index}._bn{step}", f"{place}.steps.{step}")
    return KeyRules([*rules, *_conv_rules("_conv_head", "_bn1", "pool.before"), Rename("_fc", "head")])


FAMILY = Family(
    name="efficientnet_lite",
    paper="arXiv 1905.11946",
    build=efficientnet_lite,
    sizes=_sizes(),
    layouts={"timm": timm_rules, "efficientnet_pytorch": efficientnet_pytorch_rules},
)
