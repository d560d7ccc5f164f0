"""EfficientFormer: a pyramid that mixes by pooling, and at its end by attention (arXiv 2206.01191)."""

import torch
from torch import Tensor

from .. import components as c
from ..layouts import normed_head_rules
from . import Family, Fixed, Grid, KeyRules, Model, PerStage, Rule, Sizes, Stage, classifier, renames

NORM, BATCH_NORM, SCALE = c.LayerNorm(eps=1e-5), c.BatchNorm(), 1e-5
ATTENTION = c.NarrowAttention(heads=8, key_dim=32, value_dim=128, bias=c.DistanceBias())


def efficientformer(*, dims: PerStage, depths: PerStage, attending: int, norm: c.Norm = NORM) -> Model:
    """An EfficientFormer of given widths and depths, the last blocks of which, so many, are `attending`."""

    def stage(index: int, dim: int, depth: int, attends: int) -> Stage:
        stem = c.Conv(dim=dim, kernel=3, stride=2, bias=True, norm=BATCH_NORM, act="relu")
        down, first = stem.replace(act=None), c.Steps(steps=(stem.replace(dim=dim // 2), stem))
        conv = c.Conv(dim=dim, bias=True, norm=BATCH_NORM)
        mlp = c.Steps(steps=(conv.replace(dim=4 * dim, act="gelu"), conv))
        pooling = c.residual_block(c.NeighbourMean(), mlp, layer_scale=SCALE)
        attention = c.transformer_block(ATTENTION, c.Mlp(hidden=4 * dim), norm, SCALE)
        return Stage(enter=down if index else first, blocks=(pooling,) * (depth - attends) + (attention,) * attends)

    attends = (0, 0, 0, attending)
    stages = (stage(index, *numbers) for index, numbers in enumerate(zip(dims, depths, attends, strict=True)))
    return classifier(stages, c.MeanPool(norm=norm), head=c.NormedHead(count=2))


def distances(grid: Grid) -> Tensor:
    """Where the table holds the distance of a query and a key (N, N): what the checkpoints store besides the table."""
    rows, columns = (torch.arange(size) for size in grid.size)
    down, right = (axis[:, None].sub(axis).abs() for axis in (rows, columns))
    return (grid.width * down[:, None, :, None] + right[None, :, None]).flatten(2).flatten(0, 1)


def index_rule(theirs: str, model: Model) -> Rule:
    """The index of distances on the last map, which checkpoints have for each attention."""
    grid = Grid(*model.img_size)
    for stage in model.stages:
        grid = stage.out_grid(grid)
    return Fixed(theirs, lambda: distances(grid))


def attending_blocks(model: Model) -> int:
    """The number of blocks that attend."""
    return sum(block.branches[0].mixer == ATTENTION for block in model.stages[3].blocks)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, in which the change from map to tokens counts as a block."""
    block, ours, depth = "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches", len(model.stages[3].blocks)
    scales = "ls1.gamma=0.layer_scale ls2.gamma=1.layer_scale"
    rules = renames("stem", "stages.0.enter.steps", "conv1=0.conv norm1=0.norm conv2=1.conv norm2=1.norm")
    rules += renames("", "", "stages.{s}.downsample=stages.{s}.enter norm=pool.norm")
    for b in range(depth - attending_blocks(model), depth):
        theirs, place = f"stages.3.blocks.{b + 1}", f"stages.3.blocks.{b}.branches"
        attend = "attention_biases=bias.table qkv=qkv.linear proj=proj.linear"
        rules.append(index_rule(f"{theirs}.token_mixer.attention_bias_idxs", model))
        rules += renames(f"{theirs}.token_mixer", f"{place}.0.mixer", attend)
        rules += renames(theirs, place, f"norm1=0.norm norm2=1.norm mlp=1.mixer {scales}")
    rules += renames(f"{block}.mlp", f"{ours}.1.mixer.steps", "fc1=0.conv norm1=0.norm fc2=1.conv norm2=1.norm")
    rules += renames(block, ours, scales)
    return KeyRules(rules, normed_head_rules("head", "head_dist", layer=""))


SIZES: Sizes = {
    "efficientformer_l1": {"dims": (48, 96, 224, 448), "depths": (3, 2, 6, 4), "attending": 1},
    "efficientformer_l3": {"dims": (64, 128, 320, 512), "depths": (4, 4, 12, 6), "attending": 4},
    "efficientformer_l7": {"dims": (96, 192, 384, 768), "depths": (6, 6, 18, 8), "attending": 8},
}
FAMILY = Family("efficientformer", "arXiv 2206.01191", efficientformer, SIZES, {"timm": timm_rules})
