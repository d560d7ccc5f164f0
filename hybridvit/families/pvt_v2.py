"""PVTv2: a pyramid whose attention looks up keys and values on a coarser map (arXiv 2106.13797).

`pvt_v2_b2_li` pools every map to 7 x 7 keys and values, so that its cost is linear in the positions. transformers has
an epsilon of 1e-6 in every norm; the authors and timm have 1e-5 in entrances and in front of keys and values.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..components import LayerNorm, LinearHead, MeanPool, Normalize, ReducedAttention, Steps, summaries
from ..components.blocks import Block, Branch, transformer_block
from ..components.convs import Conv, refuse_prefix
from ..encoder import Model, Stage
from ..keys import Concat, KeyRules, Rename, Rule, linear_to_conv
from ..layouts import transformers_prefix
from ..spec import Grid, Norm, Transition
from ..tokens import map_to_tokens, tokens_to_map
from . import Family, Sizes

PerStage = tuple[int, ...]

NORM, ENTRANCE_NORM = LayerNorm(eps=1e-6), LayerNorm(eps=1e-5)
SIDES, POOLED_SIDE = (8, 4, 2, 1), 7  # squares that give one key; keys along an axis


class PoolTo(Transition):
    """The mean over `side` x `side` equal parts of the map, whatever its size; parts of a smaller map repeat."""

    side: int

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(self.side, self.side, grid.prefix)

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        refuse_prefix(self.kind, grid)
        return PoolToModule(self.side)


class PoolToModule(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return map_to_tokens(F.adaptive_avg_pool2d(tokens_to_map(tokens, grid), self.side))


def pvt_v2(
    *,
    dims: PerStage,
    depths: PerStage,
    heads: PerStage,
    ratios: PerStage = (8, 8, 4, 4),
    linear: bool = False,
    entrance_norm: Norm = ENTRANCE_NORM,
) -> Model:
    """A PVTv2 of given widths, depths and heads; `linear`: with as many keys at any size.

    `ratios` are those of the hidden width of the MLPs; `entrance_norm` is that of the entrances and of the keys.
    """

    def stage(index: int, dim: int, hidden: int) -> Stage:
        pooled = Steps(steps=(PoolTo(side=POOLED_SIDE), Conv(dim=dim, bias=True, norm=entrance_norm, act="gelu")))
        keys = pooled if linear else summaries(dim, SIDES[index], entrance_norm)
        expand = Conv(dim=hidden, bias=True, act="relu" if linear else None)
        depthwise = Conv(dim=hidden, kernel=3, groups=hidden, bias=True, act="gelu")
        mlp = Steps(steps=(expand, depthwise, Conv(dim=dim, bias=True)))
        block = transformer_block(ReducedAttention(heads=heads[index], reduce=keys), mlp, NORM)
        kernel, stride = (3, 2) if index else (7, 4)
        return Stage(
            enter=Conv(dim=dim, kernel=kernel, stride=stride, bias=True, norm=entrance_norm),
            blocks=(*(block,) * depths[index], Block(branches=(Branch(mixer=Normalize(norm=NORM), residual=False),))),
        )

    stages = tuple(stage(index, dim, dim * ratios[index]) for index, dim in enumerate(dims))
    return Model(stages=stages, pool=MeanPool(), head=LinearHead())


WIDE: dict[str, Any] = {"dims": (64, 128, 320, 512), "heads": (1, 2, 5, 8)}
SIZES: Sizes = {
    "pvt_v2_b0": WIDE | {"dims": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
    "pvt_v2_b1": WIDE | {"depths": (2, 2, 2, 2)},
    "pvt_v2_b2": WIDE | {"depths": (3, 4, 6, 3)},
    "pvt_v2_b3": WIDE | {"depths": (3, 4, 18, 3)},
    "pvt_v2_b4": WIDE | {"depths": (3, 8, 27, 3)},
    "pvt_v2_b5": WIDE | {"depths": (3, 6, 40, 3), "ratios": (4, 4, 4, 4)},
    "pvt_v2_b2_li": WIDE | {"depths": (3, 4, 6, 3), "linear": True},
}


def _places(model: Model) -> list[tuple[str, str, str]]:
    """Places of ours, of timm and of transformers, where they differ in names only."""
    stage, block, ours = "stages.{s}", "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches"
    hf = f"{transformers_prefix(model, 'pvt_v2')}encoder.layers.{{s}}"
    places = [
        (f"{ours}.0.norm", f"{block}.norm1", f"{hf}.blocks.{{b}}.layer_norm_1"),
        (f"{ours}.0.mixer.query", f"{block}.attn.q", f"{hf}.blocks.{{b}}.attention.query"),
        (f"{ours}.0.mixer.reduce.steps.1.conv", f"{block}.attn.sr", f"{hf}.blocks.{{b}}.attention.spatial_reduction"),
        (f"{ours}.0.mixer.reduce.steps.1.norm", f"{block}.attn.norm", f"{hf}.blocks.{{b}}.attention.layer_norm"),
        (f"{ours}.0.mixer.proj", f"{block}.attn.proj", f"{hf}.blocks.{{b}}.attention.proj"),
        (f"{ours}.1.norm", f"{block}.norm2", f"{hf}.blocks.{{b}}.layer_norm_2"),
        (f"{ours}.1.mixer.steps.0.conv", f"{block}.mlp.fc1", f"{hf}.blocks.{{b}}.mlp.dense1"),
        (f"{ours}.1.mixer.steps.1.conv", f"{block}.mlp.dwconv", f"{hf}.blocks.{{b}}.mlp.dwconv.dwconv"),
        (f"{ours}.1.mixer.steps.2.conv", f"{block}.mlp.fc2", f"{hf}.blocks.{{b}}.mlp.dense2"),
        (f"{stage}.enter.conv", f"{stage}.downsample.proj", f"{hf}.patch_embedding.proj"),
        (f"{stage}.enter.norm", f"{stage}.downsample.norm", f"{hf}.patch_embedding.layer_norm"),
        ("head", "head", "classifier"),
    ]
    for s, of in enumerate(model.stages):
        # Ours is the last block of a stage, so its place depends on the depth.
        last = f"stages.{s}.blocks.{len(of.blocks) - 1}.branches.0.mixer.norm"
        places.append((last, f"stages.{s}.norm", f"{hf.format(s=s)}.layer_norm"))
    return places


def _rules(places: Iterable[tuple[str, str]]) -> list[Rule]:
    """Pairs of ours and theirs as rules; linear layers of an MLP there are convolutions here."""
    linear = ".mixer.steps.0.conv", ".mixer.steps.2.conv"
    return [(linear_to_conv if ours.endswith(linear) else Rename)(theirs, ours) for ours, theirs in places]


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    stem = [("stages.0.enter.conv", "patch_embed.proj"), ("stages.0.enter.norm", "patch_embed.norm")]
    key_value = "stages.{s}.blocks.{b}.branches.0.mixer.key_value", "stages.{s}.blocks.{b}.attn.kv"
    return KeyRules(_rules([*stem, key_value, *((ours, timm) for ours, timm, _ in _places(model))]))


def transformers_rules(model: Model) -> KeyRules:
    """The layout of PvtV2ForImageClassification, and of PvtV2Model without a classifier."""
    attention = f"{transformers_prefix(model, 'pvt_v2')}encoder.layers.{{s}}.blocks.{{b}}.attention"
    parts = [f"{attention}.{part}" for part in ("key", "value")]
    key_value = Concat(parts, "stages.{s}.blocks.{b}.branches.0.mixer.key_value")
    return KeyRules([key_value, *_rules((ours, transformers) for ours, _, transformers in _places(model))])


LAYOUTS = {"timm": timm_rules, "transformers": transformers_rules}
FAMILY = Family(name="pvt_v2", paper="arXiv 2106.13797", build=pvt_v2, sizes=SIZES, layouts=LAYOUTS)
