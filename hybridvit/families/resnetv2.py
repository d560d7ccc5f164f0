"""ResNetV2: residual networks with norm and activation before the convolutions (arXiv 1603.05027).

`bit` models are BiT's (1912.11370): standardised kernels, group norm, and a max pool that sees zeros beyond the border,
not minus infinity; with pre-activation its input has negative values, so the two differ. The others have batch norm
(`gn`: group norm) and plain kernels; `d` ones the deep stem and pooled shortcuts of 1812.01187.
"""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F

from .. import components as c
from . import Family, Grid, KeyRules, Model, Sizes, classifier, conv_to_linear, renames
from .resnet import BASIC, DEEP_STEM, DEPTHS, STEM_WIDTH, body_rules, residual_stages

NORM, GROUP_NORM = c.BatchNorm(), c.GroupNorm()


class ZeroPad(c.Function, c.Transition):
    """Zeros around the map, `margin` on every side."""

    takes_prefix = False
    margin: int = 1

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(grid.height + 2 * self.margin, grid.width + 2 * self.margin, grid.prefix)

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return c.map_to_tokens(F.pad(c.tokens_to_map(tokens, grid), (self.margin,) * 4))


def resnetv2(*, layers: int, bit: bool = False, widening: int = 1, deep: bool = False, norm: c.Norm = NORM) -> Model:
    """A ResNetV2 of so many layers, each `widening` times as wide."""
    recipe = c.Residual(norm=norm, bottleneck=layers not in BASIC, pooled_shortcut=deep, pre_activation=True)
    if bit:
        recipe = replace(recipe, conv=c.StdConv, norm=GROUP_NORM)
    stem, width = DEEP_STEM if deep else (widening * STEM_WIDTH,), widening * STEM_WIDTH
    pool = c.Steps(steps=(ZeroPad(), c.MaxPool(padding=0))) if bit else c.MaxPool()
    stages = residual_stages(recipe, stem=stem, depths=DEPTHS[layers], pool=pool, width=width)
    return classifier(stages, c.MeanPool(before=recipe.activated_norm()))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout: the norm in front of a convolution has its number."""
    stem = model.stages[0].enter
    assert isinstance(stem, c.Steps)
    deep = len(stem.steps) > 1
    enter, mixer = "stages.{s+2}.enter.steps", "blocks.{b}.branches.0.mixer.steps"
    shortcut = f"{enter}.1.shortcut.steps.1" if deep else f"{enter}.1.shortcut"
    # A block of theirs; of ours its steps, and which of them is the body.
    blocks = {"stages.{s}.blocks.0": (enter, "1.body"), "stages.{s}.blocks.{b+1}": (f"stages.{{s+2}}.{mixer}", "1")}
    if model.stages[2].enter == c.Identity():
        blocks = {"stages.0.blocks.{b}": (f"stages.2.{mixer}", "1")} | blocks
    rules = [*renames("", "", "norm=pool.before.norm"), conv_to_linear("head.fc", "head")]
    rules += body_rules("stem", "stages.0.enter", "norm") if deep else []
    rules += renames("stem", "stages.0.enter.steps.0", "conv")
    rules += renames("stages.{s}.blocks.0.downsample", shortcut, "conv")
    for theirs, (steps, body) in blocks.items():
        rules += renames(theirs, steps, "norm1=0.norm") + body_rules(theirs, f"{steps}.{body}", "norm", first_norm=2)
    return KeyRules(rules)


BIT = ((50, 1, 224), (50, 3, 448), (101, 1, 448), (101, 3, 448), (152, 2, 224), (152, 4, 480))
SIZES: Sizes = {
    f"resnetv2_{layers}x{widening}_bit": {"layers": layers, "bit": True, "widening": widening, "img_size": img_size}
    for layers, widening, img_size in BIT
}
for layers in (18, 34, 50, 101, 152):
    SIZES |= {f"resnetv2_{layers}": {"layers": layers}, f"resnetv2_{layers}d": {"layers": layers, "deep": True}}
SIZES["resnetv2_50d_gn"] = {"layers": 50, "deep": True, "norm": GROUP_NORM}
FAMILY = Family("resnetv2", "arXiv 1912.11370", resnetv2, SIZES, {"timm": timm_rules})
