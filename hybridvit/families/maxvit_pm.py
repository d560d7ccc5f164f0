"""A MaxViT (arXiv 2204.01697) that attends in blocks and over a grid side by side, by Ross Wightman; never trained."""

from typing import cast

import torch
from torch import Tensor, nn

from .. import components as c
from . import Family, Grid, KeyRules, Model, PerStage, Rename, Sizes, Stage
from .coatnet import ENDS, conv_rules
from .maxvit import AT_256, TINY, attention_rules, maxvit, transformer_rules


class ParallelWindows(c.Mixer):
    """Attention in blocks of neighbours and attention over a grid; each gives one half of the channels."""

    attention: c.Attention
    window: tuple[int, int]


@c.module_of(ParallelWindows)
class ParallelWindowsModule(nn.Module):
    def __init__(self, spec: ParallelWindows, dim: int, grid: Grid) -> None:
        super().__init__()
        blocks = c.WindowAttention(attention=spec.attention, window=spec.window)
        self.in_blocks = blocks.build(dim, grid)
        self.over_grid = blocks.replace(layout="grid").build(dim, grid)
        for half in (self.in_blocks, self.over_grid):
            cast("nn.Module", half.attention).proj = c.linear(dim, dim // 2)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return torch.cat([self.in_blocks(tokens, grid), self.over_grid(tokens, grid)], dim=-1)


def maxvit_pm(*, stem: tuple[int, int], dims: PerStage, depths: PerStage, img_size: int = 224) -> Model:
    """As `maxvit`, but each block is two convolutions, attention in both kinds of windows, and an MLP."""
    # One more block a stage: its convolution is the second of the first block.
    more = tuple(depth + 1 for depth in depths)
    model = maxvit(stem=stem, dims=dims, depths=more, layouts=("grid",), img_size=img_size)

    def parallel(stage: Stage) -> Stage:
        conv, attend, mlp = stage.blocks[1].branches
        windows = attend.mixer
        assert isinstance(windows, c.WindowAttention)
        assert isinstance(windows.attention, c.Attention)
        attend = attend.replace(mixer=ParallelWindows(attention=windows.attention, window=windows.window))
        first, block = c.Block(branches=(conv, attend, mlp)), c.Block(branches=(conv, conv, attend, mlp))
        return stage.replace(blocks=(first, *(block,) * (len(stage.blocks) - 2)))

    return model.replace(stages=(model.stages[0], *map(parallel, model.stages[1:])))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout. The first convolution of a stage is our entrance."""
    first, others = "stages.{s}.blocks.0", "stages.{s}.blocks.{b+1}"
    our_first, our_others = "stages.{s+1}.blocks.0.branches", "stages.{s+1}.blocks.{b+1}.branches"
    rules = [*ENDS, Rename(f"{first}.conv.0.shortcut.expand", "stages.{s+1}.enter.shortcut.steps.1.conv")]
    rules += conv_rules(f"{first}.conv.0", "stages.{s+1}.enter.body.steps")
    rules += conv_rules(f"{first}.conv.1", f"{our_first}.0.mixer.steps")
    rules += conv_rules(f"{others}.conv.{{c}}", f"{our_others}.{{c}}.mixer.steps")
    for theirs, ours, place in ((first, our_first, 1), (others, our_others, 2)):
        mixer = f"{ours}.{place}.mixer"
        rules += attention_rules(f"{theirs}.attn.attn_block", f"{mixer}.in_blocks.attention")
        rules += attention_rules(f"{theirs}.attn.attn_grid", f"{mixer}.over_grid.attention")
        rules += transformer_rules(f"{theirs}.attn", f"{ours}.{place}", f"{ours}.{place + 1}")
    return KeyRules(rules)


SIZES: Sizes = {"maxvit_tiny_pm_256": TINY | AT_256}
FAMILY = Family("maxvit_pm", "arXiv 2204.01697", maxvit_pm, SIZES, {"timm": timm_rules})
