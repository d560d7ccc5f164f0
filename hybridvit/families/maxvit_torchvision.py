"""MaxViT as torchvision has it (arXiv 2204.01697): `maxvit_t`, next to the paper's network of the same size.

Its convolutions and pooling are padded alike on all sides, zeros included; every strided shortcut has a convolution;
scores are scaled by the width of all heads together; the classifier has no bias.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from .. import components as c
from . import Family, Grid, Model, Numbers, PerStage, Sizes, Stage
from .maxvit import maxvit

NORM, BATCH_NORM = c.LayerNorm(eps=1e-5), c.BatchNorm(eps=1e-3)
CONV = c.MBConv(norm=BATCH_NORM)


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
    numbers: Numbers = {"conv": CONV, "norm": NORM, "attention": WholeScaleAttention, "hidden": True}
    model = maxvit(stem=(stem, stem), dims=dims, depths=depths, img_size=32 * window, **numbers)
    first = c.Conv(dim=stem, kernel=3, stride=2, norm=BATCH_NORM, act="gelu")
    stages = [Stage(enter=c.Steps(steps=(first, c.Conv(dim=stem, kernel=3, bias=True))))]
    for stage, dim in zip(model.stages[1:], dims, strict=True):
        shortcut = c.Steps(steps=(ZeroPaddedPool(), c.Conv(dim=dim, bias=True)))
        stages.append(stage.replace(enter=stage.enter.replace(shortcut=shortcut)))
    return model.replace(stages=tuple(stages), head=c.LinearHead(bias=False))


SIZES: Sizes = {"maxvit_t": {"stem": 64, "dims": (64, 128, 256, 512), "depths": (2, 2, 5, 2)}}
FAMILY = Family("maxvit_torchvision", "arXiv 2204.01697", maxvit_torchvision, SIZES, {})
