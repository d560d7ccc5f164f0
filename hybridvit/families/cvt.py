"""CvT: a transformer in three stages whose queries, keys and values come out of convolutions (arXiv 2103.15808).

Microsoft trained the released weights with QuickGELU; transformers runs them with GELU, and so do the models here.
`cvt(..., act="quick_gelu")` is the network as it was trained.
"""

from torch import Tensor, nn

from .. import components as c
from . import Family, Grid, KeyRules, Model, Numbers, PerStage, Sizes, Stage, classifier, renames

NORM = c.LayerNorm(eps=1e-5)


class ConvAttention(c.Mixer):
    """Self-attention whose queries, keys and values are each a depthwise convolution with batch norm, then linear.

    Keys and values are taken every `key_stride` positions. Prefix tokens bypass the convolutions. As in the released
    weights, scores are scaled by the width of all heads together and not by the width of one.
    """

    heads: int
    kernel: int = 3
    key_stride: int = 2
    norm: c.Norm | None = c.BatchNorm()


@c.module_of(ConvAttention)
class ConvAttentionModule(nn.Module):
    def __init__(self, spec: ConvAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        c.head_width(spec.kind, dim, spec.heads)
        self.heads = spec.heads
        self.query = ConvProjection(spec, dim, grid, stride=1)
        self.key = ConvProjection(spec, dim, grid, stride=spec.key_stride)
        self.value = ConvProjection(spec, dim, grid, stride=spec.key_stride)
        self.attend = c.ScaledDotProduct(dim**-0.5)
        self.proj = c.linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query, key, value = (part(tokens, grid) for part in (self.query, self.key, self.value))
        return self.proj(self.attend.in_heads(self.heads, query, key, value))


class ConvProjection(nn.Module):
    """Tokens (B, N, C) -> tokens (B, M, C), where M counts the prefix and the convolution's positions."""

    def __init__(self, spec: ConvAttention, dim: int, grid: Grid, stride: int) -> None:
        super().__init__()
        conv = c.Conv(dim=dim, kernel=spec.kernel, stride=stride, groups=dim, bias=not spec.norm, norm=spec.norm)
        build = conv.build_keeping if stride == 1 else conv.build
        self.conv = build(dim, grid._replace(prefix=0))
        self.linear = c.linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        prefix, positions = c.split_prefix(tokens, grid)
        return self.linear(c.join_prefix(prefix, self.conv(positions, grid._replace(prefix=0))))


def cvt(*, dims: PerStage, depths: PerStage, heads: PerStage, act: str = "gelu") -> Model:
    """A CvT of given widths, depths and heads; the class token comes in at the last stage."""
    stages: list[Stage] = []
    for index, (dim, depth, count) in enumerate(zip(dims, depths, heads, strict=True)):
        kernel, stride, padding = (3, 2, 1) if stages else (7, 4, 2)
        enter = c.Conv(dim=dim, kernel=kernel, stride=stride, padding=padding, bias=True, norm=NORM)
        block = c.transformer_block(ConvAttention(heads=count), c.Mlp(hidden=4 * dim, act=act), NORM)
        stages.append(Stage(enter=enter, prefix=int(index == len(dims) - 1), blocks=(block,) * depth))
    return classifier(stages, c.TokenPool(norm=NORM))


def original_rules(model: Model) -> KeyRules:
    """The layout of Microsoft's own checkpoints."""
    block, ours = "stage{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches"
    start = "cls_token=prefix.tokens patch_embed.proj=enter.conv patch_embed.norm=enter.norm"
    rules = renames("", "", "norm=pool.norm head") + renames("stage{s}", "stages.{s}", start)
    rules += renames(block, ours, "norm1=0.norm attn.proj=0.mixer.proj norm2=1.norm mlp=1.mixer")
    for name in ("query", "key", "value"):
        conv, layer = f"conv_proj_{name[0]}", f"proj_{name[0]}"
        parts = f"{conv}.conv=conv.conv {conv}.bn=conv.norm {layer}=linear"
        rules += renames(f"{block}.attn", f"{ours}.0.mixer.{name}", parts)
    return KeyRules(rules)


NARROW: Numbers = {"dims": (64, 192, 384), "heads": (1, 3, 6)}
CVT_13, CVT_21, AT_384 = NARROW | {"depths": (1, 2, 10)}, NARROW | {"depths": (1, 4, 16)}, {"img_size": 384}
SIZES: Sizes = {
    "cvt_13": CVT_13,
    "cvt_13_384": CVT_13 | AT_384,
    "cvt_21": CVT_21,
    "cvt_21_384": CVT_21 | AT_384,
    "cvt_w24_384": {"dims": (192, 768, 1024), "heads": (3, 12, 16), "depths": (2, 2, 20)} | AT_384,
}
FAMILY = Family("cvt", "arXiv 2103.15808", cvt, SIZES, {"original": original_rules})
