"""BEiT (arXiv 2106.08254) and BEiT v2 (2208.06366): ViTs whose every layer has relative positions of its own."""

import torch
from torch import Tensor

from .. import components as c
from ..layouts import timm_eva_rules
from ..trunks import NORM, WIDTHS, named_sizes, vit_stage
from . import Family, Grid, KeyRules, Model, Sizes, SpecError, classifier, renames


class ClassTokenBias(c.Bias):
    """A learned value a head for every offset, and three more: from, to and between class tokens."""


@c.module_of(ClassTokenBias)
class ClassTokenTable(c.GridTable):
    """A table ((2h - 1) * (2w - 1) + 3, heads), of which the last three rows stay on any grid."""

    def __init__(self, spec: ClassTokenBias, heads: int, grid: Grid) -> None:
        if grid.prefix != 1:
            raise SpecError(f"{spec.kind} is for one prefix token, the class token, not for {grid.prefix}")
        super().__init__(grid, (2 * grid.height - 1) * (2 * grid.width - 1) + 3, heads)

    def resized(self, grid: Grid) -> Tensor:
        return torch.cat([c.resize_offset_table(self.table[:-3], self.grid, grid), self.table[-3:]])

    def forward(self, grid: Grid) -> Tensor:
        table = self.at(grid)
        of_class, to_class, itself = table[-3:, :, None, None]
        by_offset = table[:-3].unflatten(0, (2 * grid.height - 1, 2 * grid.width - 1))
        below = torch.cat([to_class.expand(-1, grid.tokens - 1, -1), c.by_pair(by_offset, grid)], dim=2)
        first = torch.cat([itself, of_class.expand(-1, -1, grid.tokens - 1)], dim=2)
        return torch.cat([first, below], dim=1)


def beit(*, width: str, patch: int, layer_scale: float = 1e-5, norm: c.Norm = NORM) -> Model:
    """A BEiT of a named width. The class token takes part, but the mean leaves it out."""
    of = WIDTHS[width]
    attention = c.Attention(heads=of.heads, key_bias=False, bias=ClassTokenBias())
    block = c.transformer_block(attention, c.Mlp(hidden=of.hidden), norm, layer_scale)
    stage = vit_stage(enter=patch, width=of, position=c.NoPosition(), block=block)
    return classifier((stage,), c.MeanPool(post_norm=norm))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    theirs, ours = "blocks.{b}.attn", "stages.0.blocks.{b}.branches.0.mixer"
    return timm_eva_rules(model, first=renames(theirs, ours, "relative_position_bias_table=bias.table"))


SIZES: Sizes = named_sizes("beit_base_patch16_{224,384}", layer_scale=0.1)
SIZES |= named_sizes("beit_large_patch16_{224,384,512} beitv2_{base,large}_patch16_224")
FAMILY = Family("beit", "arXiv 2106.08254", beit, SIZES, {"timm": timm_rules})
