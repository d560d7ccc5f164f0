"""Next-ViT: grouped convolutions, and every few blocks attention beside them (arXiv 2207.05501).

A block that attends is wider in its second half than in its first, so it is two stages here, at the same stride.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from ..components import AvgPool, BatchNorm, Block, Branch, Conv, Linear, LinearHead, MeanPool, Mlp, ReducedAttention
from ..components.transitions import Add, Identity, Join, Normalize, Steps
from ..encoder import Model, Stage
from ..keys import Concat, KeyRules, Rename, Rule, conv_to_linear
from ..spec import Grid, Transition
from . import Family, Sizes

NORM = BatchNorm()
HEAD_WIDTH = 32
REDUCTIONS = (64, 16, 4, 1)
DEPTHS = {"small": 10, "base": 20, "large": 30}


class Runs(Transition):
    """The mean of each run of `length` tokens, row by row; a rest that fills none is left out, unless it is all."""

    length: int

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(1, max(grid.tokens // self.length, 1))

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        return RunsModule(self.length)


class RunsModule(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        length = min(self.length, grid.tokens)
        return F.avg_pool1d(tokens.transpose(1, 2), length).transpose(1, 2)


def embed(in_dim: int, dim: int, stride: int = 1) -> Transition:
    """To another width, or stride by pooling."""
    if in_dim == dim and stride == 1:
        return Identity()
    return Steps(steps=(AvgPool(stride=stride) if stride > 1 else Identity(), Conv(dim=dim, norm=NORM)))


def conv_attention(dim: int) -> Steps:
    """A convolution inside each group of channels, then a layer across them."""
    inside = Conv(dim=dim, kernel=3, groups=dim // HEAD_WIDTH, norm=NORM, act="relu")
    return Steps(steps=(inside, Linear(dim=dim, bias=False)))


def mlp(dim: int, ratio: int) -> Branch:
    """Two layers on each position."""
    return Branch(mixer=Mlp(hidden=ratio * dim, act="relu"), norm=NORM)


def conv_stage(in_dim: int, dim: int, stride: int) -> list[Stage]:
    """A block that convolves."""
    return [
        Stage(
            enter=embed(in_dim, dim, stride), blocks=(Block(branches=(Branch(mixer=conv_attention(dim)), mlp(dim, 3))),)
        )
    ]


def attending_stages(in_dim: int, dim: int, stride: int, run: int) -> list[Stage]:
    """A block that attends in three quarters of its channels, and convolves in the others."""
    wide, narrow = dim * 3 // 4, dim // 4
    reduce = Steps(steps=(Runs(length=run), Normalize(norm=NORM))) if run > 1 else Identity()
    attention = ReducedAttention(heads=wide // HEAD_WIDTH, reduce=reduce)
    local = Steps(steps=(embed(wide, narrow), Add(shortcut=Identity(), body=conv_attention(narrow))))
    return [
        Stage(enter=embed(in_dim, wide, stride), blocks=(Block(branches=(Branch(mixer=attention, norm=NORM),)),)),
        Stage(enter=Join(parts=(Identity(), local)), blocks=(Block(branches=(mlp(dim, 2),)),)),
    ]


def plan(depths: tuple[int, int, int, int]) -> list[tuple[int, int, int, bool]]:
    """For each block: its stage, its stride, its width, and whether it attends."""
    widths = [(96,), (192, 192, 192, 256), (384, 384, 384, 384, 512), (768, 768, 1024)]
    return [
        (s, 2 if b == 0 and s else 1, period[b % len(period)], s > 0 and (b + 1) % len(period) == 0)
        for s, (depth, period) in enumerate(zip(depths, widths, strict=True))
        for b in range(depth)
    ]


def nextvit(*, depth: int) -> Model:
    """A Next-ViT with a given depth of its third stage, a multiple of 5."""
    conv = Conv(dim=64, kernel=3, norm=NORM, act="relu")
    steps = (conv.replace(stride=2), conv.replace(dim=32), conv, conv.replace(stride=2))
    stages, width = [Stage(enter=Steps(steps=steps))], 64
    for s, stride, dim, attends in plan((3, 4, depth, 3)):
        stages += attending_stages(width, dim, stride, REDUCTIONS[s]) if attends else conv_stage(width, dim, stride)
        width = dim
    return Model(stages=tuple(stages), pool=MeanPool(norm=NORM), head=LinearHead())


SIZES: Sizes = {f"nextvit_{name}": {"depth": depth} for name, depth in DEPTHS.items()}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, whose blocks are counted by stride."""
    rules: list[Rule] = [Rename(f"stem.{step}", f"stages.0.enter.steps.{step}") for step in range(4)]

    def add(theirs: str, ours: str, *parts: tuple[str, str], make: Callable[[str, str], Rename] = Rename) -> None:
        rules.extend(make(f"{theirs}.{part}", f"{ours}.{place}") for part, place in parts)

    counts, s, ours = [0] * 4, 0, 1
    while ours < len(model.stages):
        s += model.stages[ours].enter.out_stride(1) == 2
        theirs, place = f"stages.{s}.blocks.{counts[s]}", f"stages.{ours}"
        counts[s] += 1
        add(f"{theirs}.patch_embed", f"{place}.enter.steps.1", ("conv", "conv"), ("norm", "norm"))
        local, last = f"{place}.blocks.0.branches.0.mixer", f"{place}.blocks.0.branches.1"
        if attends := model.stages[ours].blocks[0].branches[0].mixer.kind == ReducedAttention.kind:
            attention, following = f"{place}.blocks.0.branches.0", f"stages.{ours + 1}"
            inner = f"{attention}.mixer"
            add(theirs, attention, ("norm1", "norm"), ("e_mhsa.q", "mixer.query"), ("e_mhsa.proj", "mixer.proj"))
            add(theirs, inner, ("e_mhsa.norm", "reduce.steps.1.norm"))
            for kind in ("weight", "bias"):
                rules.append(Concat([f"{theirs}.e_mhsa.{n}.{kind}" for n in ("k", "v")], f"{inner}.key_value.{kind}"))
            joined, last = f"{following}.enter.parts.1.steps", f"{following}.blocks.0.branches.0"
            add(f"{theirs}.projection", f"{joined}.0.steps.1", ("conv", "conv"), ("norm", "norm"))
            local = f"{joined}.1.body"
        add(f"{theirs}.mhca", f"{local}.steps", ("group_conv3x3", "0.conv"), ("norm", "0.norm"))
        add(f"{theirs}.mhca", f"{local}.steps", ("projection", "1.linear"), make=conv_to_linear)
        add(theirs, last, ("norm2" if attends else "norm", "norm"))
        add(f"{theirs}.mlp", f"{last}.mixer", ("fc1", "fc1"), ("fc2", "fc2"), make=conv_to_linear)
        ours += 1 + attends
    return KeyRules([*rules, Rename("norm", "pool.norm"), Rename("head.fc", "head")])


FAMILY = Family(name="nextvit", paper="arXiv 2207.05501", build=nextvit, sizes=SIZES, layouts={"timm": timm_rules})
