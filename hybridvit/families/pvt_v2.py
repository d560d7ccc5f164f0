"""PVTv2: a pyramid whose attention looks up keys and values on a coarser map (arXiv 2106.13797).

`pvt_v2_b2_li` pools every map to 7 x 7 keys and values, so that its cost is linear in the positions. transformers has
an epsilon of 1e-6 in every norm; the authors and timm have 1e-5 in entrances and in front of keys and values.
"""

from torch import Tensor
from torch.nn import functional as F

from .. import components as c
from . import Family, Grid, KeyRules, Model, Numbers, PerStage, Rule, Sizes, Stage, classifier, linear_to_conv, renames

NORM, ENTRANCE_NORM = c.LayerNorm(eps=1e-6), c.LayerNorm(eps=1e-5)
SIDES, POOLED_SIDE = (8, 4, 2, 1), 7  # squares that give one key; keys along an axis
OURS = "stages.{s}.blocks.{b}.branches"


class PoolTo(c.Function, c.Transition):
    """The mean over `side` x `side` equal parts of the map, whatever its size; parts of a smaller map repeat."""

    takes_prefix = False
    side: int

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(self.side, self.side, grid.prefix)

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return c.map_to_tokens(F.adaptive_avg_pool2d(c.tokens_to_map(tokens, grid), self.side))


def pvt_v2(
    *,
    dims: PerStage,
    depths: PerStage,
    heads: PerStage,
    ratios: PerStage = (8, 8, 4, 4),
    linear: bool = False,
    entrance_norm: c.Norm = ENTRANCE_NORM,
) -> Model:
    """A PVTv2 of given widths, depths and heads; `linear`: with as many keys at any size.

    `ratios` are those of the hidden width of the MLPs; `entrance_norm` is that of the entrances and of the keys.
    """

    def stage(index: int, dim: int, hidden: int) -> Stage:
        pooled = c.Steps(steps=(PoolTo(side=POOLED_SIDE), c.Conv(dim=dim, bias=True, norm=entrance_norm, act="gelu")))
        keys = pooled if linear else c.summaries(dim, SIDES[index], entrance_norm)
        expand = c.Conv(dim=hidden, bias=True, act="relu" if linear else None)
        depthwise = c.Conv(dim=hidden, kernel=3, groups=hidden, bias=True, act="gelu")
        mlp = c.Steps(steps=(expand, depthwise, c.Conv(dim=dim, bias=True)))
        block = c.transformer_block(c.ReducedAttention(heads=heads[index], reduce=keys), mlp, NORM)
        kernel, stride = (3, 2) if index else (7, 4)
        enter = c.Conv(dim=dim, kernel=kernel, stride=stride, bias=True, norm=entrance_norm)
        last = c.Block(branches=(c.Branch(mixer=c.Normalize(norm=NORM), residual=False),))
        return Stage(enter=enter, blocks=(*(block,) * depths[index], last))

    return classifier((stage(index, dim, dim * ratios[index]) for index, dim in enumerate(dims)), c.MeanPool())


def last_norms(model: Model, theirs: str) -> list[Rule]:
    """The norm at the end of each stage: ours is its last block, so that its place depends on the depth."""
    ends = (f"{theirs.format(s=s)}=stages.{s}.blocks.{len(stage.blocks) - 1}" for s, stage in enumerate(model.stages))
    return renames("", "", " ".join(f"{end}.branches.0.mixer.norm" for end in ends))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block = "stages.{s}.blocks.{b}"
    attend = "q=query kv=key_value sr=reduce.steps.1.conv norm=reduce.steps.1.norm proj"
    return KeyRules(
        renames("patch_embed", "stages.0.enter", "proj=conv norm"),
        renames("stages.{s}.downsample", "stages.{s}.enter", "proj=conv norm"),
        renames(f"{block}.attn", f"{OURS}.0.mixer", attend),
        renames(block, OURS, "norm1=0.norm norm2=1.norm mlp.dwconv=1.mixer.steps.1.conv"),
        renames(f"{block}.mlp", f"{OURS}.1.mixer.steps", "fc1=0.conv fc2=2.conv", linear_to_conv),
        last_norms(model, "stages.{s}.norm"),
        renames("", "", "head"),
    )


WIDE: Numbers = {"dims": (64, 128, 320, 512), "heads": (1, 2, 5, 8)}
SIZES: Sizes = {
    "pvt_v2_b0": WIDE | {"dims": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
    "pvt_v2_b1": WIDE | {"depths": (2, 2, 2, 2)},
    "pvt_v2_b2": WIDE | {"depths": (3, 4, 6, 3)},
    "pvt_v2_b3": WIDE | {"depths": (3, 4, 18, 3)},
    "pvt_v2_b4": WIDE | {"depths": (3, 8, 27, 3)},
    "pvt_v2_b5": WIDE | {"depths": (3, 6, 40, 3), "ratios": (4, 4, 4, 4)},
    "pvt_v2_b2_li": WIDE | {"depths": (3, 4, 6, 3), "linear": True},
}
FAMILY = Family("pvt_v2", "arXiv 2106.13797", pvt_v2, SIZES, {"timm": timm_rules})
