"""EfficientFormer: a pyramid that mixes by pooling, and at its end by attention (arXiv 2206.01191)."""

import torch
from torch import Tensor

from ..components import Conv, DistanceBias, MeanPool, Mlp, NarrowAttention, NeighbourMean, NormedHead, Steps
from ..components.blocks import Block, Branch, transformer_block
from ..components.norms import BatchNorm, LayerNorm
from ..encoder import Model, Stage
from ..keys import Fixed, KeyRules, Rename, Rule
from ..layouts import normed_head_rules, transformers_prefix
from ..spec import Grid
from . import Family, Sizes

PerStage = tuple[int, ...]

NORM, BATCH_NORM, SCALE = LayerNorm(eps=1e-5), BatchNorm(), 1e-5
ATTENTION = NarrowAttention(heads=8, key_dim=32, value_dim=128, bias=DistanceBias())


def efficientformer(*, dims: PerStage, depths: PerStage, attending: int) -> Model:
    """An EfficientFormer of given widths and depths, the last blocks of which, so many, are `attending`."""

    def stage(index: int, dim: int, depth: int, attends: int) -> Stage:
        stem = Conv(dim=dim, kernel=3, stride=2, bias=True, norm=BATCH_NORM, act="relu")
        down, first = stem.replace(act=None), Steps(steps=(stem.replace(dim=dim // 2), stem))
        conv = Conv(dim=dim, bias=True, norm=BATCH_NORM)
        mlp = Steps(steps=(conv.replace(dim=4 * dim, act="gelu"), conv))
        pooling = Block(branches=tuple(Branch(mixer=mixer, layer_scale=SCALE) for mixer in (NeighbourMean(), mlp)))
        attention = transformer_block(ATTENTION, Mlp(hidden=4 * dim), NORM, SCALE)
        return Stage(enter=down if index else first, blocks=(pooling,) * (depth - attends) + (attention,) * attends)

    attends = (0, 0, 0, attending)
    stages = tuple(stage(index, *numbers) for index, numbers in enumerate(zip(dims, depths, attends, strict=True)))
    return Model(stages=stages, pool=MeanPool(norm=NORM), head=NormedHead(count=2))


SIZES: Sizes = {
    "efficientformer_l1": {"dims": (48, 96, 224, 448), "depths": (3, 2, 6, 4), "attending": 1},
    "efficientformer_l3": {"dims": (64, 128, 320, 512), "depths": (4, 4, 12, 6), "attending": 4},
    "efficientformer_l7": {"dims": (96, 192, 384, 768), "depths": (6, 6, 18, 8), "attending": 8},
}


def distances(grid: Grid) -> Tensor:
    """Where the table holds the distance of a query and a key (N, N): what the checkpoints store besides the table."""
    rows, columns = (torch.arange(size) for size in grid.size)
    down, right = (axis[:, None].sub(axis).abs() for axis in (rows, columns))
    return (grid.width * down[:, None, :, None] + right[None, :, None]).flatten(2).flatten(0, 1)


def _attending(model: Model) -> int:
    return sum(block.branches[0].mixer == ATTENTION for block in model.stages[3].blocks)


def _grid(model: Model) -> Grid:
    grid = Grid(*model.img_size)
    for stage in model.stages:
        grid = stage.out_grid(grid)
    return grid


OURS = "stages.{s}.blocks.{b}.branches"


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, in which the change from map to tokens counts as a block."""
    attends, depth = _attending(model), len(model.stages[3].blocks)
    block, rules = "stages.{s}.blocks.{b}", list[Rule]()
    for b in range(depth - attends, depth):
        theirs, ours = f"stages.3.blocks.{b + 1}", f"stages.3.blocks.{b}.branches"
        rules += [
            Fixed(f"{theirs}.token_mixer.attention_bias_idxs", lambda: distances(_grid(model))),
            Rename(f"{theirs}.token_mixer.attention_biases", f"{ours}.0.mixer.bias.table"),
            Rename(f"{theirs}.token_mixer.qkv", f"{ours}.0.mixer.qkv.linear"),
            Rename(f"{theirs}.token_mixer.proj", f"{ours}.0.mixer.proj.linear"),
            Rename(f"{theirs}.mlp", f"{ours}.1.mixer"),
        ]
        for branch in (0, 1):
            rules.append(Rename(f"{theirs}.norm{branch + 1}", f"{ours}.{branch}.norm"))
            rules.append(Rename(f"{theirs}.ls{branch + 1}.gamma", f"{ours}.{branch}.layer_scale"))
    for step in (0, 1):
        rules += [
            Rename(f"stem.conv{step + 1}", f"stages.0.enter.steps.{step}.conv"),
            Rename(f"stem.norm{step + 1}", f"stages.0.enter.steps.{step}.norm"),
            Rename(f"{block}.mlp.fc{step + 1}", f"{OURS}.1.mixer.steps.{step}.conv"),
            Rename(f"{block}.mlp.norm{step + 1}", f"{OURS}.1.mixer.steps.{step}.norm"),
            Rename(f"{block}.ls{step + 1}.gamma", f"{OURS}.{step}.layer_scale"),
        ]
    rules += [Rename("stages.{s}.downsample", "stages.{s}.enter"), Rename("norm", "pool.norm")]
    return KeyRules([*rules, *normed_head_rules("head", "head_dist", layer="")])


def transformers_rules(model: Model) -> KeyRules:
    """The layout of EfficientFormerForImageClassificationWithTeacher, which transformers had until version 4."""
    base, attends = transformers_prefix(model, "efficientformer"), _attending(model)
    pooling, last = len(model.stages[3].blocks) - attends, f"{base}encoder.last_stage"
    stages = {2 * s: s for s in range(3)}
    rules: list[Rule] = []
    for step, norm in ((1, "batchnorm_before"), (2, "batchnorm_after")):
        stem = f"stages.0.enter.steps.{step - 1}"
        rules.append(Rename(f"{base}patch_embed.convolution{step}", f"{stem}.conv"))
        rules.append(Rename(f"{base}patch_embed.{norm}", f"{stem}.norm"))
        places = {f"{base}encoder.intermediate_stages.{i}.meta4D_layers": s for i, s in stages.items()}
        for place, s in (places | {f"{last}.meta4D_layers": 3}).items():
            theirs, ours = f"{place}.blocks.{{b}}", f"stages.{s}.blocks.{{b}}.branches"
            rules.append(Rename(f"{theirs}.mlp.convolution{step}", f"{ours}.1.mixer.steps.{step - 1}.conv"))
            rules.append(Rename(f"{theirs}.mlp.{norm}", f"{ours}.1.mixer.steps.{step - 1}.norm"))
            rules.append(Rename(f"{theirs}.layer_scale_{step}", f"{ours}.{step - 1}.layer_scale"))
    for i, s in stages.items():
        theirs = f"{base}encoder.intermediate_stages.{i + 1}"
        rules.append(Rename(f"{theirs}.projection", f"stages.{s + 1}.enter.conv"))
        rules.append(Rename(f"{theirs}.norm", f"stages.{s + 1}.enter.norm"))
    for b in range(attends):
        theirs, ours = f"{last}.meta3D_layers.blocks.{b}", f"stages.3.blocks.{pooling + b}.branches"
        rules += [
            Fixed(f"{theirs}.token_mixer.attention_bias_idxs", lambda: distances(_grid(model))),
            Rename(f"{theirs}.token_mixer.attention_biases", f"{ours}.0.mixer.bias.table"),
            Rename(f"{theirs}.token_mixer.qkv", f"{ours}.0.mixer.qkv.linear"),
            Rename(f"{theirs}.token_mixer.projection", f"{ours}.0.mixer.proj.linear"),
            Rename(f"{theirs}.mlp.linear_in", f"{ours}.1.mixer.fc1"),
            Rename(f"{theirs}.mlp.linear_out", f"{ours}.1.mixer.fc2"),
        ]
        for branch in (0, 1):
            rules.append(Rename(f"{theirs}.layernorm{branch + 1}", f"{ours}.{branch}.norm"))
            rules.append(Rename(f"{theirs}.layer_scale_{branch + 1}", f"{ours}.{branch}.layer_scale"))
    rules.append(Rename(f"{base}layernorm", "pool.norm"))
    return KeyRules([*rules, *normed_head_rules("classifier", "distillation_classifier", layer="")])


LAYOUTS = {"timm": timm_rules, "transformers": transformers_rules}
FAMILY = Family(name="efficientformer", paper="arXiv 2206.01191", build=efficientformer, sizes=SIZES, layouts=LAYOUTS)
