"""Convolutions and spatial pooling on the map that the tokens are a view of."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..kernels import Conv2d, unchanged
from ..norm_kernels import normalized
from ..spec import Grid, Mixer, Norm, SpecError, Strided, Widening, fewer, module_of
from ..tokens import every, map_to_tokens, tokens_to_map
from .activations import activation
from .functions import Function

Padding = int | Literal["same"] | None


def padded_size(size: int, kernel: int, stride: int, padding: Padding) -> int:
    """Positions along an axis after a convolution or pooling of that kernel, stride and padding."""
    if padding == "same":
        return fewer(size, stride)
    border = (kernel - 1) // 2 if padding is None else padding
    return (size + 2 * border - kernel) // stride + 1


def pad_same(map_: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """A map with a border so that of each axis ceil(size / stride) positions result, as TensorFlow pads."""
    sides: list[int] = []
    for size in (map_.shape[3], map_.shape[2]):
        total = (fewer(size, stride) - 1) * stride + kernel - size
        total = max(total, 0) if kernel < stride else total  # not asked where it is positive at any size
        sides += [total // 2, total - total // 2]
    return F.pad(map_, sides, value=value)


class Conv(Widening, Strided):
    """Convolution, then an optional norm and activation.

    `padding` None is symmetric, (kernel - 1) // 2 on every side; "same" pads for the input at hand so that the output
    has ceil(size / stride) positions, as TensorFlow does. A depthwise convolution has groups = dim. A subclass whose
    kernel is parametrised in another way has another `layer`.
    """

    layer: ClassVar[type[nn.Conv2d]] = Conv2d
    may_be_zero = ("padding",)
    kernel: int = 1
    stride: int = 1
    padding: Padding = None
    groups: int = 1
    bias: bool = False
    norm: Norm | None = None
    act: str | None = None

    def out_grid(self, grid: Grid) -> Grid:
        height, width = (padded_size(size, self.kernel, self.stride, self.padding) for size in grid.size)
        return Grid(height, width, grid.prefix)

    def build_conv(self, in_dim: int) -> nn.Conv2d:
        """The bare convolution, a `layer`."""
        padding = (self.kernel - 1) // 2 if self.padding is None else 0 if self.padding == "same" else self.padding
        stride = 1 if self.kernel == 1 else self.stride
        conv = self.layer(in_dim, self.dim, self.kernel, stride, padding, groups=self.groups, bias=self.bias)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        conv.weight.data.mul_(self.groups**0.5)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        return conv


@module_of(Conv, prefix=False)
class ConvModule(nn.Module):
    def __init__(self, spec: Conv, dim: int, grid: Grid) -> None:
        super().__init__()
        if dim % spec.groups or spec.dim % spec.groups:
            raise SpecError(f"{spec.kind}: {spec.groups} groups do not divide widths {dim} -> {spec.dim}")
        self.conv = spec.build_conv(dim)
        self.same = spec.padding == "same"
        # A strided 1x1 convolution takes every so many positions by itself: oneDNN's crashes with few channels.
        self.every = spec.stride if spec.kernel == 1 else 1
        self.norm = spec.norm.build(spec.dim) if spec.norm else nn.Identity()
        acts = unchanged, activation(spec.act)
        self.conv_act, self.act = acts if spec.norm else reversed(acts)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        if self.every > 1:
            tokens = every(tokens, grid, self.every)
            grid = Grid(fewer(grid.height, self.every), fewer(grid.width, self.every))
        map_ = tokens_to_map(tokens, grid)
        if self.same:
            map_ = pad_same(map_, self.conv.kernel_size[0], self.conv.stride[0])
        return normalized(self.conv, self.conv_act, self.norm, self.act, map_, map_to_tokens)


class StdConv2d(Conv2d):
    eps = 1e-8

    def standardized(self) -> Tensor:
        """The kernels that it convolves with."""
        kernels = self.weight.flatten(1)
        return F.layer_norm(kernels, kernels.shape[1:], eps=self.eps).view_as(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return self.convolve(input, self.standardized())


class StdConv(Conv):
    """Convolution with standardised kernels, every output channel to mean 0 and variance 1 (arXiv 1903.10520)."""

    layer: ClassVar[type[nn.Conv2d]] = StdConv2d


class MaxPool(Function, Strided):
    """Maximum over windows. `padding` as in Conv, with minus infinity outside the map."""

    takes_prefix = False
    may_be_zero = ("padding",)
    kernel: int = 3
    padding: int | Literal["same"] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding != "same" and self.padding > self.kernel // 2:
            raise SpecError(f"{self.kind}.padding: {self.padding} is more than half of a kernel of {self.kernel}")

    def out_grid(self, grid: Grid) -> Grid:
        height, width = (padded_size(size, self.kernel, self.stride, self.padding) for size in grid.size)
        return Grid(height, width, grid.prefix)

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        map_, padding = tokens_to_map(tokens, grid), self.padding
        if padding == "same":
            map_, padding = pad_same(map_, self.kernel, self.stride, value=-torch.inf), 0
        return map_to_tokens(F.max_pool2d(map_, self.kernel, self.stride, padding))


class AvgPool(Function, Strided):
    """Mean over windows of `stride` x `stride` positions; windows that reach over the border average what is inside.

    The output has ceil(size / stride) positions, so a pooled shortcut meets a padded strided convolution at any size.
    `overlap`: windows of one more position than the stride, an odd number, around every second one.
    """

    takes_prefix = False
    overlap: bool = False

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        border = self.stride // 2 if self.overlap else 0
        kernel = 2 * border + 1 if self.overlap else self.stride
        map_ = tokens_to_map(tokens, grid)
        return map_to_tokens(F.avg_pool2d(map_, kernel, self.stride, border, not self.overlap, False))


class NeighbourMean(Function, Mixer):
    """The mean over the 3 x 3 positions around each, less the position itself."""

    takes_prefix = False

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        map_ = tokens_to_map(tokens, grid)
        return map_to_tokens(F.avg_pool2d(map_, 3, stride=1, padding=1, count_include_pad=False)) - tokens
