"""Recipes of convolutional blocks: from numbers to the steps of a block's body, strided or not."""

from dataclasses import dataclass
from typing import Literal

from ..spec import Norm, Transition
from .convs import AvgPool, Conv
from .functions import Identity
from .mixers import LayerScale, Mlp, SqueezeExcite
from .norms import BatchNorm, LayerNorm
from .transitions import AtLeast, Normalize, Steps

BATCH_NORM, AT_ZERO, LAYER_NORM = BatchNorm(), BatchNorm(zero_init=True), LayerNorm()
Padding = Literal["same"] | None


def pooled_shortcut(in_dim: int, dim: int, pool: Transition, bias: bool) -> Transition:
    """The shortcut across a strided block: pooling, then a 1x1 convolution if the width changes."""
    return Steps(steps=(pool, Identity() if in_dim == dim else Conv(dim=dim, bias=bias)))


def summaries(dim: int, side: int, norm: Norm | None) -> Transition:
    """One token for each whole square of `side` positions: what reduced attention attends to. A rest is dropped."""
    if side == 1:
        return Identity()
    conv = Conv(dim=dim, kernel=side, stride=side, padding=0, bias=True, norm=norm)
    return Steps(steps=(AtLeast(side=side), conv))


def conv_stem(dims: tuple[int, int], norm: Norm, act: str, padding: Padding = None, bias: bool = False) -> Transition:
    """Two convolutions of given widths, the first at stride 2 and with a norm and activation."""
    first = Conv(dim=dims[0], kernel=3, stride=2, padding=padding, bias=bias, norm=norm, act=act)
    return Steps(steps=(first, Conv(dim=dims[1], kernel=3, padding=padding, bias=bias)))


def doubling_stem(dim: int, stride: int, norm: Norm, act: str) -> Steps:
    """Convolutions at stride 2 down to `stride`, each of twice the width before, with an activation between them."""
    widths = [dim >> step for step in reversed(range(stride.bit_length() - 1))]
    convs = [Conv(dim=width, kernel=3, stride=2, norm=norm, act=act) for width in widths]
    return Steps(steps=(*convs[:-1], convs[-1].replace(act=None)))


def inverted_residual(
    dim: int, hidden: int, act: str, stride: int = 1, norm: Norm = BATCH_NORM, normed: bool = True
) -> Steps:
    """Expand, filter each channel, project, with a norm behind each step, and no activation behind the last.

    As in MobileNetV2 (arXiv 1801.04381). Without `normed` the first two have biases instead of norms.
    """
    early = Conv(dim=hidden, bias=not normed, norm=norm if normed else None, act=act)
    return Steps(steps=(early, early.replace(kernel=3, stride=stride, groups=hidden), Conv(dim=dim, norm=norm)))


def conv_mlp(dim: int, act: str) -> Steps:
    """Two layers on each position, through twice the width, with a norm behind each; the last starts at zero."""
    return Steps(steps=(Conv(dim=2 * dim, norm=BATCH_NORM, act=act), Conv(dim=dim, norm=AT_ZERO)))


def excited_merge(in_dim: int, dim: int) -> Steps:
    """An inverted residual (arXiv 1801.04381) at stride 2, with squeeze-and-excitation."""
    wide, filters, last = inverted_residual(dim, 4 * in_dim, "relu", stride=2).steps
    return Steps(steps=(wide, filters, excite_part(4 * in_dim), last))


def excite_part(dim: int, part: int = 4) -> SqueezeExcite:
    """Squeeze-and-excitation through one `part`-th of the width, or rather the nearest multiple of 8."""
    return SqueezeExcite(hidden=max(8, (dim // part + 4) // 8 * 8))


@dataclass(frozen=True, kw_only=True)
class Excite:
    """Squeeze-and-excitation (arXiv 1709.01507) inside an MBConv, through `ratio` times the block's narrow width."""

    act: str = "silu"
    ratio: float = 0.25
    early: bool = False  # before the norm and activation of the depthwise convolution, not after them


EXCITE = Excite()


@dataclass(frozen=True, kw_only=True)
class MBConv:
    """Norm, expand to 4 times the width, filter each channel, excite, project (arXiv 1801.04381).

    `widen_last`: a block that changes width does so in its last layer instead of in its first.
    `pool_to_stride`: it strides by pooling in front instead of by its depthwise convolution.
    """

    act: str = "gelu"
    act_first: bool = False  # an activation after the first norm too
    norm: Norm = BATCH_NORM
    bias: bool = True  # in the last convolution
    excite: Excite = EXCITE
    widen_last: bool = False
    pool_to_stride: bool = False
    padding: Padding = None  # of the depthwise convolution

    def body(self, in_dim: int, dim: int, stride: int = 1) -> Transition:
        """The steps next to the shortcut. An absent step keeps its place, so that all variants have the same keys."""
        narrow, absent = in_dim if self.widen_last else dim, Identity()
        hidden, early = 4 * narrow, self.excite.early
        excite = SqueezeExcite(hidden=int(self.excite.ratio * narrow), act=self.excite.act)
        pooled = self.pool_to_stride and stride > 1
        depthwise = Conv(dim=hidden, kernel=3, stride=1 if pooled else stride, padding=self.padding, groups=hidden)
        steps = (
            Normalize(norm=self.norm, act=self.act if self.act_first else None),
            AvgPool(stride=stride) if pooled else absent,
            Conv(dim=hidden, norm=self.norm, act=self.act),
            depthwise,
            excite if early else absent,
            Normalize(norm=self.norm, act=self.act),
            absent if early else excite,
            Conv(dim=dim, bias=self.bias),
        )
        return Steps(steps=steps)


@dataclass(frozen=True, kw_only=True)
class ConvNeXt:
    """Filter each channel over 7 x 7 positions, norm, then a two-layer perceptron (arXiv 2201.03545)."""

    act: str = "gelu"
    norm: Norm = LAYER_NORM
    bias: bool = True  # in the convolution
    layer_scale: float = 1e-6
    padding: Padding = None

    def body(self, in_dim: int, dim: int, stride: int = 1) -> Transition:
        """The steps next to the shortcut."""
        filters = Conv(dim=dim, kernel=7, stride=stride, padding=self.padding, groups=in_dim, bias=self.bias)
        mlp, scale = Mlp(hidden=4 * dim, act=self.act), LayerScale(initial=self.layer_scale)
        return Steps(steps=(filters, Normalize(norm=self.norm), mlp, scale))
