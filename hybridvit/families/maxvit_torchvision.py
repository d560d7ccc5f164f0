"""MaxViT as torchvision has it (arXiv 2204.01697): `maxvit_t`, next to the paper's network of the same size.

Its convolutions and pooling are padded alike on all sides, zeros included; every strided shortcut has a convolution;
scores are scaled by the width of all heads together; the classifier has no bias.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from .. import components as c
from . import Family, Grid, Model, PerStage, Sizes, Stage, classifier
from .coatnet import HEAD_WIDTH, tanh_pool

NORM, BATCH_NORM = c.LayerNorm(eps=1e-5), c.BatchNorm(eps=1e-3)
CONV = c.MBConv(norm=BATCH_NORM)
LAYOUTS: tuple[c.Layout, ...] = ("block", "grid")


class WholeScaleAttention(c.Attention):
    """Attention whose scores are scaled by the width of all heads together and not by the width of one."""

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        module = super().build(in_dim, grid)
        module.attend = c.ScaledDotProduct(in_dim**-0.5)
        return module


class ZeroPaddedPool(c.AvgPool):
    """The mean over windows of 3 x 3 around every second position, the zeros beyond the border included."""

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return c.map_to_tokens(F.avg_pool2d(c.tokens_to_map(tokens, grid), 3, stride=2, padding=1))


def maxvit_torchvision(*, stem: int, dims: PerStage, depths: PerStage, window: int = 7) -> Model:
    """A MaxViT of a given width of the stem, and widths and depths of the stages."""

    def stage(in_dim: int, dim: int, depth: int) -> Stage:
        attention = WholeScaleAttention(heads=dim // HEAD_WIDTH, bias=c.RelativePositionBias())
        windows = (c.WindowAttention(attention=attention, window=(window, window), layout=layout) for layout in LAYOUTS)
        attends = tuple(
            b for mixer in windows for b in c.transformer_block(mixer, c.Mlp(hidden=4 * dim), NORM).branches
        )
        shortcut = c.Steps(steps=(ZeroPaddedPool(), c.Conv(dim=dim, bias=True)))
        block = c.Block(branches=(c.Branch(mixer=CONV.body(dim, dim)), *attends))
        # The first convolution of a stage is its entrance.
        enter = c.Add(shortcut=shortcut, body=CONV.body(in_dim, dim, stride=2))
        return Stage(enter=enter, blocks=(c.Block(branches=attends), *(block,) * (depth - 1)))

    first = c.Conv(dim=stem, kernel=3, stride=2, norm=BATCH_NORM, act="gelu")
    enter = c.Steps(steps=(first, c.Conv(dim=stem, kernel=3, bias=True)))
    stages = (stage(*numbers) for numbers in zip((stem, *dims[:-1]), dims, depths, strict=True))
    return classifier((Stage(enter=enter), *stages), tanh_pool(NORM, dims[-1]), head=c.LinearHead(bias=False))


SIZES: Sizes = {"maxvit_t": {"stem": 64, "dims": (64, 128, 256, 512), "depths": (2, 2, 5, 2)}}
FAMILY = Family("maxvit_torchvision", "arXiv 2204.01697", maxvit_torchvision, SIZES, {})
