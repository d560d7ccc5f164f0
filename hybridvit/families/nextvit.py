"""Next-ViT: grouped convolutions, and every few blocks attention beside them (arXiv 2207.05501).

A block that attends is wider in its second half than in its first, so it is two stages here, at the same stride.
"""

from torch import Tensor
from torch.nn import functional as F

from .. import components as c
from . import Concat, Family, Grid, KeyRules, Model, Sizes, Stage, classifier, conv_to_linear, renames

NORM, HEAD_WIDTH, REDUCTIONS = c.BatchNorm(), 32, (64, 16, 4, 1)
# The widths of blocks, over and over; where there are several, a block of the last one attends.
WIDTHS = (96,), (192, 192, 192, 256), (384, 384, 384, 384, 512), (768, 768, 1024)


class Runs(c.Function, c.Transition):
    """The mean of each run of `length` tokens, row by row; a rest that fills none is left out, unless it is all."""

    length: int

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(1, max(grid.tokens // self.length, 1))

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        length = min(self.length, grid.tokens)
        return F.avg_pool1d(tokens.transpose(1, 2), length).transpose(1, 2)


def embed(in_dim: int, dim: int, stride: int = 1) -> c.Transition:
    """To another width, or stride by pooling."""
    if in_dim == dim and stride == 1:
        return c.Identity()
    return c.Steps(steps=(c.AvgPool(stride=stride) if stride > 1 else c.Identity(), c.Conv(dim=dim, norm=NORM)))


def conv_attention(dim: int) -> c.Steps:
    """A convolution inside each group of channels, then a layer across them."""
    inside = c.Conv(dim=dim, kernel=3, groups=dim // HEAD_WIDTH, norm=NORM, act="relu")
    return c.Steps(steps=(inside, c.Linear(dim=dim, bias=False)))


def stage(enter: c.Transition, *branches: c.Branch) -> Stage:
    """A stage of one block."""
    return Stage(enter=enter, blocks=(c.Block(branches=branches),))


def attending_stages(in_dim: int, dim: int, stride: int, run: int) -> list[Stage]:
    """A block that attends in three quarters of its channels, and convolves in the others."""
    wide, narrow = dim * 3 // 4, dim // 4
    reduce = c.Steps(steps=(Runs(length=run), c.Normalize(norm=NORM))) if run > 1 else c.Identity()
    attention = c.ReducedAttention(heads=wide // HEAD_WIDTH, reduce=reduce)
    local = c.Steps(steps=(embed(wide, narrow), c.Add(body=conv_attention(narrow))))
    mlp = c.Branch(mixer=c.Mlp(hidden=2 * dim, act="relu"), norm=NORM)
    attending = stage(embed(in_dim, wide, stride), mlp.replace(mixer=attention))
    return [attending, stage(c.Join(parts=(c.Identity(), local)), mlp)]


def nextvit(*, depth: int) -> Model:
    """A Next-ViT with a given depth of its third stage, a multiple of 5."""
    conv = c.Conv(dim=64, kernel=3, norm=NORM, act="relu")
    steps = (conv.replace(stride=2), conv.replace(dim=32), conv, conv.replace(stride=2))
    stages, width = [Stage(enter=c.Steps(steps=steps))], 64
    for s, (count, widths) in enumerate(zip((3, 4, depth, 3), WIDTHS, strict=True)):
        for b in range(count):
            dim, stride = widths[b % len(widths)], 2 if s and not b else 1
            if s and (b + 1) % len(widths) == 0:
                stages += attending_stages(width, dim, stride, REDUCTIONS[s])
            else:
                mlp = c.Branch(mixer=c.Mlp(hidden=3 * dim, act="relu"), norm=NORM)
                stages.append(stage(embed(width, dim, stride), c.Branch(mixer=conv_attention(dim)), mlp))
            width = dim
    return classifier(stages, c.MeanPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, whose blocks are counted by stride."""
    rules = renames("", "", "norm=pool.norm head.fc=head stem=stages.0.enter.steps")
    counts, s, ours = [0] * 4, 0, 1
    while ours < len(model.stages):
        s += model.stages[ours].enter.out_stride(1) == 2
        theirs, place = f"stages.{s}.blocks.{counts[s]}", f"stages.{ours}"
        counts[s] += 1
        rules += renames(f"{theirs}.patch_embed", f"{place}.enter.steps.1", "conv norm")
        attention = f"{place}.blocks.0.branches.0"
        local, last, norm = f"{attention}.mixer", f"{place}.blocks.0.branches.1", "norm"
        if model.stages[ours].blocks[0].branches[0].mixer.kind == c.ReducedAttention.kind:
            rules += renames(theirs, attention, "norm1=norm")
            rules += renames(f"{theirs}.e_mhsa", local, "q=query proj norm=reduce.steps.1.norm")
            for kind in ("weight", "bias"):
                rules.append(Concat([f"{theirs}.e_mhsa.{n}.{kind}" for n in ("k", "v")], f"{local}.key_value.{kind}"))
            ours += 1
            joined, last, norm = f"stages.{ours}.enter.parts.1.steps", f"stages.{ours}.blocks.0.branches.0", "norm2"
            rules += renames(f"{theirs}.projection", f"{joined}.0.steps.1", "conv norm")
            local = f"{joined}.1.body"
        rules += renames(f"{theirs}.mhca", f"{local}.steps", "group_conv3x3=0.conv norm=0.norm")
        rules += renames(theirs, last, f"{norm}=norm")
        rules.append(conv_to_linear(f"{theirs}.mhca.projection", f"{local}.steps.1.linear"))
        rules.append(conv_to_linear(f"{theirs}.mlp", f"{last}.mixer"))
        ours += 1
    return KeyRules(rules)


SIZES: Sizes = {f"nextvit_{name}": {"depth": depth} for name, depth in (("small", 10), ("base", 20), ("large", 30))}
FAMILY = Family("nextvit", "arXiv 2207.05501", nextvit, SIZES, {"timm": timm_rules})
