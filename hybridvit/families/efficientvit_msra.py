"""EfficientViT of Microsoft: heads see different channels, each with what the last one found (arXiv 2305.07027)."""

import torch
from torch import Tensor, nn

from .. import components as c
from ..layouts import excite_rules, normed_head_rules, normed_renames
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, Stage, classifier, renames

NORM, AT_0 = c.BatchNorm(), c.BatchNorm(zero_init=True)


class CascadedAttention(c.Mixer):
    """Each head attends in its share of the channels, to which what the head before it found has been added.

    Queries are filtered by a depthwise convolution, of one of the `kernels` for each head.
    """

    kernels: tuple[int, ...]
    key_dim: int
    norm: c.Norm | None = NORM


@c.module_of(CascadedAttention)
class CascadedAttentionModule(nn.Module):
    def __init__(self, spec: CascadedAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        heads, key_dim = len(spec.kernels), spec.key_dim
        width = c.head_width(spec.kind, dim, heads)
        self.widths = [key_dim, key_dim, width]
        first = c.Linear(dim=2 * key_dim + width, bias=not spec.norm, norm=spec.norm)
        conv = c.Conv(dim=key_dim, groups=key_dim, bias=not spec.norm, norm=spec.norm)
        filters = (conv.replace(kernel=kernel) for kernel in spec.kernels)
        self.qkv = nn.ModuleList(first.build(width, grid) for _ in spec.kernels)
        self.filters = nn.ModuleList(conv.build(key_dim, grid) for conv in filters)
        self.attends = nn.ModuleList(c.ScaledDotProduct(key_dim**-0.5) for _ in spec.kernels)
        self.bias = c.DistanceBias().build(heads, grid)
        self.proj = first.replace(dim=dim, norm=spec.norm and AT_0).build(dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        biases = self.bias(grid)[:, None, None]
        found: list[Tensor] = []
        parts = zip(tokens.chunk(len(self.qkv), dim=2), biases, self.qkv, self.filters, self.attends, strict=True)
        for share, bias, qkv, filters, attend in parts:
            share = share + found[-1] if found else share
            query, key, value = qkv(share, grid).split(self.widths, dim=2)
            query = filters(query.contiguous(), grid)
            found.append(attend(query[:, None], key[:, None], value[:, None], bias).squeeze(1))
        return self.proj(torch.cat(found, dim=2).relu(), grid)


def local_bodies(dim: int) -> tuple[c.Transition, c.Transition]:
    """A depthwise convolution, and two layers on each position."""
    return c.Conv(dim=dim, kernel=3, groups=dim, norm=AT_0), c.conv_mlp(dim, "relu")


def efficientvit(*, dims: PerStage, depths: PerStage, heads: PerStage, kernels: PerStage, img_size: int = 224) -> Model:
    """An EfficientViT of given widths, depths and heads; a stage has the first `kernels`, as many as heads.

    Windows have 7 positions a side, or as many as the smaller map of the last stage has.
    """

    def merge(in_dim: int, dim: int) -> c.Transition:
        before, after = (tuple(c.Add(body=body) for body in local_bodies(width)) for width in (in_dim, dim))
        return c.Steps(steps=(*before, *c.excited_merge(in_dim, dim).steps, *after))

    stages: list[Stage] = []
    for dim, depth, count in zip(dims, depths, heads, strict=True):
        side = min(7, -(-img_size // (16 << len(stages))))
        attention = CascadedAttention(kernels=kernels[:count], key_dim=16)
        mixers = (*local_bodies(dim), c.WindowAttention(attention=attention, window=(side, side)), *local_bodies(dim))
        enter = merge(dims[len(stages) - 1], dim) if stages else c.doubling_stem(dim, 16, NORM, "relu")
        stages.append(Stage(enter=enter, blocks=(c.residual_block(*mixers),) * depth))
    return classifier(stages, c.MeanPool(), img_size, head=c.NormedHead(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout. Heads and their filters are in lists."""
    block, ours, down = "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches", "stages.{s}.downsample"
    enter, attention, theirs = "stages.{s}.enter.steps", f"{ours}.2.mixer.attention", f"{block}.mixer.m.attn"
    rules = normed_renames("patch_embed", "stages.0.enter.steps", "conv1=0 conv2=1 conv3=2 conv4=3", "conv")
    rules += normed_renames(f"{down}.patchmerge", enter, "conv1=2 conv2=3 conv3=5", "conv")
    for i, (filters, mlp, first) in enumerate(((0, 1, 0), (3, 4, 6))):
        bodies = f"dw{i}.m={filters}.mixer ffn{i}.m.pw1={mlp}.mixer.steps.0 ffn{i}.m.pw2={mlp}.mixer.steps.1"
        rules += normed_renames(block, ours, bodies, "conv")
        steps = f"0.m={first}.body 1.m.pw1={first + 1}.body.steps.0 1.m.pw2={first + 1}.body.steps.1"
        rules += normed_renames(f"{down}.res{i + 1}", enter, steps, "conv")
    rules += normed_renames(theirs, attention, "dws.{h}=filters.{h}", "conv")
    rules += normed_renames(theirs, attention, "qkvs.{h}=qkv.{h} proj.1=proj", "conv", linear=True)
    rules += renames(theirs, attention, "attention_biases=bias.table")
    return KeyRules(rules, excite_rules(f"{down}.patchmerge.se", f"{enter}.4"), normed_head_rules("head"))


EQUAL, FALLING = (5, 5, 5, 5), (7, 5, 3, 3)
SIZES: Sizes = {
    f"efficientvit_{name}": {"dims": dims, "depths": depths, "heads": heads, "kernels": kernels}
    for name, dims, depths, heads, kernels in (
        ("m0", (64, 128, 192), (1, 2, 3), (4, 4, 4), EQUAL),
        ("m1", (128, 144, 192), (1, 2, 3), (2, 3, 3), FALLING),
        ("m2", (128, 192, 224), (1, 2, 3), (4, 3, 2), FALLING),
        ("m3", (128, 240, 320), (1, 2, 3), (4, 3, 4), EQUAL),
        ("m4", (128, 256, 384), (1, 2, 3), (4, 4, 4), FALLING),
        ("m5", (192, 288, 384), (1, 3, 4), (3, 3, 4), FALLING),
    )
}
FAMILY = Family("efficientvit_msra", "arXiv 2305.07027", efficientvit, SIZES, {"timm": timm_rules})
