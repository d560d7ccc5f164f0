"""Recipe of residual networks: from numbers to their stem, their strided first blocks and their other blocks."""

from dataclasses import dataclass, field
from typing import Literal

from ..spec import Norm, Transition
from .blocks import Block, Branch, residual_block
from .convs import AvgPool, Conv
from .norms import BatchNorm
from .transitions import Activate, Add, Normalize, Steps


@dataclass(frozen=True, kw_only=True)
class Residual:
    """How a ResNet (arXiv 1512.03385) convolves, normalises and adds.

    A basic block is two 3 x 3 convolutions; a bottleneck is 1 x 1, 3 x 3, 1 x 1 through a quarter of the width, with
    the stride in the middle. `pre_activation`: norm and activation come before each convolution (1603.05027), not
    after it; the last of a body and those of a shortcut then have none of their own.
    """

    conv: type[Conv] = Conv
    norm: Norm = field(default_factory=BatchNorm)
    last_norm: Norm | None = None  # that of a body's last convolution, where it is another
    padding: Literal["same"] | None = None
    bottleneck: bool = True
    pooled_shortcut: bool = False  # a strided shortcut averages, then convolves (1812.01187)
    pre_activation: bool = False

    def stem(self, *dims: int) -> Steps:
        """At stride 2: one 7 x 7 convolution, or several of 3 x 3 (1812.01187)."""
        kernel = 7 if len(dims) == 1 else 3
        *first, last = (self._conv(dim, kernel, stride=1 if index else 2) for index, dim in enumerate(dims))
        return Steps(steps=(*first, last.replace(norm=None, act=None) if self.pre_activation else last))

    def first_block(self, dim: int, stride: int = 1) -> Steps:
        """A block that changes width or stride, as the entrance of a stage."""
        add = Add(shortcut=self._shortcut(dim, stride), body=self._body(dim, stride))
        return Steps(steps=(self.activated_norm(), add) if self.pre_activation else (add, Activate(act="relu")))

    def block(self, dim: int) -> Block:
        """A block that keeps its shape."""
        if self.pre_activation:
            return residual_block(Steps(steps=(self.activated_norm(), self._body(dim))))
        return Block(branches=(Branch(mixer=self._body(dim)), Branch(mixer=Activate(act="relu"), residual=False)))

    def activated_norm(self) -> Normalize:
        """The norm and activation of a pre-activated block."""
        return Normalize(norm=self.norm, act="relu")

    def _body(self, dim: int, stride: int = 1) -> Steps:
        if not self.bottleneck:
            return Steps(steps=(self._conv(dim, 3, stride), self._last(dim, 3, norm=self.last_norm)))
        hidden = dim // 4
        return Steps(steps=(self._conv(hidden), self._conv(hidden, 3, stride), self._last(dim, norm=self.last_norm)))

    def _shortcut(self, dim: int, stride: int) -> Transition:
        if not self.pooled_shortcut:
            return self._last(dim, stride=stride)
        return Steps(steps=(AvgPool(stride=stride), self._last(dim)))

    def _conv(self, dim: int, kernel: int = 1, stride: int = 1) -> Conv:
        return self.conv(dim=dim, kernel=kernel, stride=stride, padding=self.padding, norm=self.norm, act="relu")

    def _last(self, dim: int, kernel: int = 1, stride: int = 1, norm: Norm | None = None) -> Conv:
        norm = None if self.pre_activation else norm or self.norm
        return self._conv(dim, kernel, stride).replace(norm=norm, act=None)
