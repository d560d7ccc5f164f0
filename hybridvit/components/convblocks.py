"""Recipes of convolutional blocks: from numbers to the steps of a block's body, strided or not."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import Norm, Transition
from .convs import AvgPool, Conv
from .mixers import LayerScale, Mlp, SqueezeExcite
from .norms import BatchNorm, LayerNorm
from .transitions import Identity, Normalize, Steps

BATCH_NORM, LAYER_NORM = BatchNorm(), LayerNorm()


def pooled_shortcut(in_dim: int, dim: int, pool: Transition, bias: bool) -> Transition:
    """The shortcut across a strided block: pooling, then a 1x1 convolution if the width changes."""
    return Steps(steps=(pool, Identity() if in_dim == dim else Conv(dim=dim, bias=bias)))


@dataclass(frozen=True, kw_only=True)
class MBConv:
    """Norm, expand to 4 times the width, filter each channel, excite (arXiv 1709.01507), project (1801.04381).

    `widen_last`: a block that changes width does so in its last layer instead of in its first.
    `pool_to_stride`: it strides by pooling in front instead of by its depthwise convolution.
    """

    act: str = "gelu"
    act_first: bool = False  # an activation after the first norm too
    norm: Norm = BATCH_NORM
    bias: bool = True  # in the last convolution
    excite_act: str = "silu"
    excite_early: bool = False  # before the norm and activation of the depthwise convolution, not after them
    widen_last: bool = False
    pool_to_stride: bool = False

    def body(self, in_dim: int, dim: int, stride: int = 1) -> Transition:
        """The steps next to the shortcut. An absent step keeps its place, so that all variants have the same keys."""
        hidden, absent = 4 * (in_dim if self.widen_last else dim), Identity()
        excite = SqueezeExcite(hidden=in_dim if self.widen_last else dim // 4, act=self.excite_act)
        pooled = self.pool_to_stride and stride > 1
        return Steps(
            steps=(
                Normalize(norm=self.norm, act=self.act if self.act_first else None),
                AvgPool(stride=stride) if pooled else absent,
                Conv(dim=hidden, norm=self.norm, act=self.act),
                Conv(dim=hidden, kernel=3, stride=1 if pooled else stride, groups=hidden),
                excite if self.excite_early else absent,
                Normalize(norm=self.norm, act=self.act),
                absent if self.excite_early else excite,
                Conv(dim=dim, bias=self.bias),
            )
        )


@dataclass(frozen=True, kw_only=True)
class ConvNeXt:
    """Filter each channel over 7 x 7 positions, norm, then a two-layer perceptron (arXiv 2201.03545)."""

    act: str = "gelu"
    norm: Norm = LAYER_NORM
    bias: bool = True  # in the convolution
    layer_scale: float = 1e-6

    def body(self, in_dim: int, dim: int, stride: int = 1) -> Transition:
        """The steps next to the shortcut."""
        return Steps(
            steps=(
                Conv(dim=dim, kernel=7, stride=stride, groups=in_dim, bias=self.bias),
                Normalize(norm=self.norm),
                Mlp(hidden=4 * dim, act=self.act),
                LayerScale(initial=self.layer_scale),
            )
        )
