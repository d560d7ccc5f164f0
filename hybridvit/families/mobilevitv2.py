"""MobileViTv2: MobileViT with attention that is linear in the number of positions, and no fusion (arXiv 2206.02680)."""

import torch
from torch import Tensor, nn

from .. import components as c
from ..layouts import normed_renames
from . import Family, Grid, KeyRules, Model, Sizes, Stage, classifier, conv_to_linear, renames
from .mobilevit import CONV, DEPTHS, end_rules, residual_rules, residual_stages

DIMS, STEM, PATCH = (64, 128, 256, 384, 512), 32, Grid(2, 2)
NORM = c.GroupNorm(groups=1)


class SeparableAttention(c.Mixer):
    """What all positions at one place of their patches of 2 x 2 gather from each other is the same, but for a gate.

    One score a position, softmaxed over those at its place, weighs their keys. Its map has a query for each place in
    the patch, as a head, and shows where that comes from.
    """


@c.module_of(SeparableAttention, prefix=False)
class SeparableAttentionModule(nn.Module):
    def __init__(self, spec: SeparableAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.widths = [1, dim, dim]
        self.qkv = c.linear(dim, sum(self.widths))
        self.attend = c.ScaledDotProduct(1.0)
        self.proj = c.linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        patches = Grid(grid.height // PATCH.height, grid.width // PATCH.width)
        score, key, value = self.qkv(tokens).split(self.widths, dim=2)
        places = (c.to_windows(part, grid, patches, "grid") for part in (score, key))
        score, key = (part.unflatten(0, (-1, PATCH.tokens)) for part in places)
        context = self.attend(torch.ones_like(score[:, :, :1]), score, key)  # (B, places, 1, C)
        context = context.squeeze(2).unflatten(1, PATCH.size)[:, None, :, None]
        gate = value.relu().unflatten(1, (patches.height, PATCH.height, patches.width, PATCH.width))
        return self.proj((gate * context).flatten(1, 4))


class WholePatches(c.Function, c.Transition):
    """Stretches a map, bilinearly, to the next size that patches of 2 x 2 divide."""

    takes_prefix = False

    def out_grid(self, grid: Grid) -> Grid:
        return c.whole_windows(grid, PATCH)

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return c.resize_map(tokens, grid, c.whole_windows(grid, PATCH), align_corners=True)


def mobilevitv2(*, width: float) -> Model:
    """A MobileViTv2 with widths scaled from those of `mobilevitv2_100`."""
    dims = tuple(int(width * dim) for dim in DIMS)
    stages = residual_stages(int(width * STEM), dims[:2], 2, expand=2)
    for in_dim, dim, depth in zip(dims[1:-1], dims[2:], DEPTHS, strict=True):
        down = c.inverted_residual(dim, 2 * in_dim, "silu", stride=2)
        local = CONV.replace(dim=dim, kernel=3, groups=dim), c.Conv(dim=dim // 2)
        block = c.transformer_block(SeparableAttention(), c.Mlp(hidden=dim, act="silu"), NORM)
        stages.append(Stage(enter=c.Steps(steps=(*down.steps, WholePatches(), *local)), blocks=(block,) * depth))
        stages.append(Stage(enter=c.Steps(steps=(c.Normalize(norm=NORM), c.Conv(dim=dim, norm=c.BatchNorm())))))
    return classifier(stages, c.MeanPool(), 256)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    rules = end_rules(model)
    for s in range(2, 2 + len(DEPTHS)):
        unit, enter, end = f"stages.{s}.1", f"stages.{2 * s - 1}.enter", f"stages.{2 * s}.enter.steps"
        block = f"{unit}.transformer.{{b}}", f"stages.{2 * s - 1}.blocks.{{b}}.branches"
        rules += residual_rules(f"stages.{s}.0", enter)
        rules += normed_renames(unit, "", f"conv_kxk={enter}.steps.4 conv_proj={end}.1", "conv")
        rules += renames(unit, "", f"conv_1x1={enter}.steps.5.conv norm={end}.0.norm")
        rules += renames(*block, "norm1=0.norm norm2=1.norm")
        rules += renames(*block, "attn.qkv_proj=0.mixer.qkv attn.out_proj=0.mixer.proj mlp=1.mixer", conv_to_linear)
    return KeyRules(rules)


SIZES: Sizes = {f"mobilevitv2_{percent:03}": {"width": percent / 100} for percent in (50, 75, 100, 125, 150, 175, 200)}
FAMILY = Family("mobilevitv2", "arXiv 2206.02680", mobilevitv2, SIZES, {"timm": timm_rules})
