"""BEiT (arXiv 2106.08254) and BEiT v2 (2208.06366): ViTs whose every layer has relative positions of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..components import Attention, MeanPool, Mlp, NoPosition, Patchify, by_pair, resize_offset_table, transformer_block
from ..components.tables import GridTable
from ..encoder import Model
from ..keys import Concat, KeyRules, Rename
from ..layouts import timm_eva_rules, transformers_prefix
from ..spec import Bias, Grid, Norm, SpecError
from ..trunks import NORM, WIDTHS, named_sizes, vit_model, vit_stage
from . import Family, Sizes


class ClassTokenBias(Bias):
    """A learned value a head for every offset, and three more: from, to and between class tokens."""

    def build(self, heads: int, grid: Grid) -> nn.Module:
        if grid.prefix != 1:
            raise SpecError(f"{self.kind} is for one prefix token, the class token, not for {grid.prefix}")
        return ClassTokenTable(heads, grid)


class ClassTokenTable(GridTable):
    """A table ((2h - 1) * (2w - 1) + 3, heads), of which the last three rows stay on any grid."""

    def __init__(self, heads: int, grid: Grid) -> None:
        super().__init__(grid, (2 * grid.height - 1) * (2 * grid.width - 1) + 3, heads)

    def resized(self, grid: Grid) -> Tensor:
        return torch.cat([resize_offset_table(self.table[:-3], self.grid, grid), self.table[-3:]])

    def forward(self, grid: Grid) -> Tensor:
        table = self.at(grid)
        positions = by_pair(table[:-3].unflatten(0, (2 * grid.height - 1, 2 * grid.width - 1)), grid)
        of_class, to_class, itself = table[-3:, :, None, None]
        below = torch.cat([to_class.expand(-1, grid.tokens - 1, -1), positions], dim=2)
        return torch.cat([F.pad(of_class.expand(-1, -1, grid.tokens - 1), (1, 0)), below], dim=1) + F.pad(
            itself, (0, grid.tokens - 1, 0, grid.tokens - 1)
        )


def beit(*, width: str, patch: int, img_size: int = 224, layer_scale: float = 1e-5, norm: Norm = NORM) -> Model:
    """A BEiT of a named width. The class token takes part, but the mean leaves it out."""
    of = WIDTHS[width]
    attention = Attention(heads=of.heads, key_bias=False, bias=ClassTokenBias())
    stage = vit_stage(
        enter=Patchify(dim=of.dim, patch=patch),
        width=of,
        position=NoPosition(),
        block=transformer_block(attention, Mlp(hidden=of.hidden), norm, layer_scale),
    )
    return vit_model(stage, MeanPool(post_norm=norm), img_size)


SIZES: Sizes = named_sizes("beit_base_patch16_224 beit_base_patch16_384", layer_scale=0.1) | named_sizes(
    "beit_large_patch16_224 beit_large_patch16_384 beit_large_patch16_512 "
    "beitv2_base_patch16_224 beitv2_large_patch16_224"
)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    table = "attn.relative_position_bias_table"
    return timm_eva_rules(
        model, first=[Rename(f"blocks.{{b}}.{table}", "stages.0.blocks.{b}.branches.0.mixer.bias.table")]
    )


def transformers_rules(model: Model) -> KeyRules:
    """The layout of BeitForImageClassification. Its tables of indices are dropped."""
    prefix = transformers_prefix(model, "beit")
    block, ours = f"{prefix}encoder.layer.{{b}}", "stages.0.blocks.{b}.branches"
    attention = f"{block}.attention.attention"
    weights = [f"{attention}.{name}.weight" for name in ("query", "key", "value")]
    return KeyRules(
        [
            Rename(f"{prefix}embeddings.cls_token", "stages.0.prefix.tokens"),
            Rename(f"{prefix}embeddings.patch_embeddings.projection", "stages.0.enter.conv"),
            Concat(weights, f"{ours}.0.mixer.qkv.weight"),
            Concat([f"{attention}.query.bias", f"{attention}.value.bias"], f"{ours}.0.mixer.qkv.bias"),
            Rename(f"{attention}.relative_position_bias.relative_position_bias_table", f"{ours}.0.mixer.bias.table"),
            Rename(f"{block}.attention.output.dense", f"{ours}.0.mixer.proj"),
            Rename(f"{block}.lambda_1", f"{ours}.0.layer_scale"),
            Rename(f"{block}.lambda_2", f"{ours}.1.layer_scale"),
            Rename(f"{block}.layernorm_before", f"{ours}.0.norm"),
            Rename(f"{block}.layernorm_after", f"{ours}.1.norm"),
            Rename(f"{block}.intermediate.dense", f"{ours}.1.mixer.fc1"),
            Rename(f"{block}.output.dense", f"{ours}.1.mixer.fc2"),
            Rename(f"{prefix}pooler.layernorm", "pool.post_norm"),
            Rename("classifier", "head"),
        ],
        dropped=[f"{attention}.relative_position_bias.relative_position_index"],
    )


LAYOUTS = {"timm": timm_rules, "transformers": transformers_rules}
FAMILY = Family(name="beit", paper="arXiv 2106.08254", build=beit, sizes=SIZES, layouts=LAYOUTS)
