"""CoAtNet: two stages of MBConv, then two of attention with relative positions (arXiv 2106.04803).

Pooling keeps what an odd border leaves over, where timm drops it or fails.
"""

from typing import Literal

from .. import components as c
from ..keys import conv_to_linear, linear_to_conv, split_heads
from . import Family, KeyRules, Model, PerStage, Rule, Sizes, Stage, classifier, renames

Kind = Literal["conv", "attention", "mixed"]
HEAD_WIDTH = 32
MBCONV, NORM, BIAS, POOL = c.MBConv(), c.LayerNorm(), c.RelativePositionBias(), c.AvgPool(stride=2)
ENDS = renames("stem", "stages.0.enter.steps", "conv1=0.conv norm1=0.norm conv2=1.conv")
ENDS += renames("", "", "norm=pool.norm head.norm=pool.post_norm head.fc=head")
ENDS += renames("", "", "head.pre_logits.fc=pool.after.conv", linear_to_conv)


def tanh_pool(norm: c.Norm, dim: int) -> c.MeanPool:
    """The mean, normalised, and a layer with a tanh."""
    return c.MeanPool(post_norm=norm, after=c.Conv(dim=dim, bias=True, act="tanh"))


def coatnet(
    *,
    stem: tuple[int, int],
    dims: PerStage,
    depths: PerStage,
    kinds: tuple[Kind, ...] = ("conv", "conv", "attention", "attention"),
    conv: c.MBConv | c.ConvNeXt = MBCONV,
    norm: c.Norm = NORM,
    bias: c.Bias = BIAS,
    pool: c.Transition = POOL,
    widen_last: bool = False,
    shortcut_bias: bool = True,
    layer_scale: float | None = None,
    hidden: bool = True,
) -> Model:
    """A CoAtNet of given widths of the two stem convolutions, and widths, depths and kinds of the stages.

    A "mixed" stage is attention after one convolution. `norm`, `bias` and `layer_scale` are those of the transformer
    blocks; `widen_last` and `shortcut_bias` those of strided attention. `hidden`: a layer between mean and classifier.
    """

    def stage(kind: Kind, in_dim: int, dim: int, depth: int) -> Stage:
        if kind == "attention":
            inner = in_dim if widen_last else dim
            attend = c.WideningAttention(dim=dim, inner=inner, heads=inner // HEAD_WIDTH, bias=bias)
            scale = c.LayerScale(initial=layer_scale) if layer_scale else c.Identity()
            body = c.Steps(steps=(c.Normalize(norm=norm), pool, attend, scale))
        else:
            body = conv.body(in_dim, dim, stride=2)
        shortcut = c.pooled_shortcut(in_dim, dim, pool, shortcut_bias if kind == "attention" else conv.bias)
        attention = c.Attention(heads=dim // HEAD_WIDTH, bias=bias)
        block = c.transformer_block(attention, c.Mlp(hidden=4 * dim), norm, layer_scale)
        if kind == "conv":
            block = c.residual_block(conv.body(dim, dim))
        first = (c.Block(branches=block.branches[1:]),) if kind == "attention" else ()
        return Stage(enter=c.Add(shortcut=shortcut, body=body), blocks=first + (block,) * (depth - 1))

    stages = (stage(*numbers) for numbers in zip(kinds, (stem[1], *dims[:-1]), dims, depths, strict=True))
    end = tanh_pool(norm, dims[-1]) if hidden else c.MeanPool(norm=norm)
    return classifier((Stage(enter=c.conv_stem(stem, conv.norm, conv.act)), *stages), end)


def conv_rules(theirs: str, steps: str) -> list[Rule]:
    """timm's names in a convolutional block, whose steps are at `steps`: MBConv's, or else ConvNeXt's."""
    mbconv = "pre_norm=0.norm conv1_1x1=2.conv norm1=2.norm conv2_kxk=3.conv norm2=5.norm conv3_1x1=7.conv"
    linear = "se_early.fc1=4.reduce se_early.fc2=4.expand se.fc1=6.reduce se.fc2=6.expand mlp=2"
    convnext = "conv_dw=0.conv norm=1.norm ls.gamma=3.gamma"
    return renames(theirs, steps, f"{mbconv} {convnext}") + renames(theirs, steps, linear, conv_to_linear)


def transformer_rules(theirs: str, norm: str, attention: str, scale: str, mlp: str) -> list[Rule]:
    """timm's names in a transformer block, whose parts are at the given places."""
    bias = "relative_position_bias_table=bias.table mlp=bias"
    return [
        *renames(theirs, "", f"norm1={norm} ls1.gamma={scale} norm2={mlp}.norm ls2.gamma={mlp}.layer_scale"),
        split_heads(f"{theirs}.attn.qkv", f"{attention}.qkv", HEAD_WIDTH),
        *renames(f"{theirs}.attn.rel_pos", attention, bias),
        *renames(theirs, "", f"attn.proj={attention}.proj mlp={mlp}.mixer", conv_to_linear),
    ]


def timm_rules(model: Model) -> KeyRules:
    """timm's layout. The first block of a stage of theirs is our entrance, and our first block if it is attention."""
    rules = ENDS + renames("stages.{s}.blocks.0.shortcut", "stages.{s+1}.enter.shortcut.steps", "expand=1.conv")
    for index, stage in enumerate(model.stages[1:]):
        first, others = f"stages.{index}.blocks.0", f"stages.{index}.blocks.{{b+1}}"
        enter, blocks = f"stages.{index + 1}.enter.body.steps", f"stages.{index + 1}.blocks"
        mixers = [branch.mixer.kind for block in stage.blocks for branch in block.branches]
        attends, attends_first = c.Attention.kind in mixers, mixers[:1] == [c.Mlp.kind]
        branches = f"{blocks}.{{b+1}}.branches" if attends_first else f"{blocks}.{{b}}.branches"
        strided = f"{enter}.0", f"{enter}.2", f"{enter}.3.gamma", f"{blocks}.0.branches.0"
        regular = f"{branches}.0.norm", f"{branches}.0.mixer", f"{branches}.0.layer_scale", f"{branches}.1"
        rules += transformer_rules(first, *strided) if attends_first else conv_rules(first, enter)
        rules += transformer_rules(others, *regular) if attends else conv_rules(others, f"{branches}.0.mixer.steps")
    return KeyRules(rules)


SIZES: Sizes = {
    "coatnet_0_224": {"stem": (64, 64), "dims": (96, 192, 384, 768), "depths": (2, 3, 5, 2)},
    "coatnet_1_224": {"stem": (64, 64), "dims": (96, 192, 384, 768), "depths": (2, 6, 14, 2)},
    "coatnet_2_224": {"stem": (128, 128), "dims": (128, 256, 512, 1024), "depths": (2, 6, 14, 2)},
    "coatnet_3_224": {"stem": (192, 192), "dims": (192, 384, 768, 1536), "depths": (2, 6, 14, 2)},
    "coatnet_4_224": {"stem": (192, 192), "dims": (192, 384, 768, 1536), "depths": (2, 12, 28, 2)},
    "coatnet_5_224": {"stem": (192, 192), "dims": (256, 512, 1280, 2048), "depths": (2, 12, 28, 2)},
}
FAMILY = Family("coatnet", "arXiv 2106.04803", coatnet, SIZES, {"timm": timm_rules})
