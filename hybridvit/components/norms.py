"""Norms over tokens (B, N, C)."""

from torch import Tensor, nn

from ..norm_kernels import acted_batch_norm, batch_norm, group_norm
from ..spec import Norm, SpecError


class LayerNorm(Norm):
    """Normalises each token over its channels (arXiv 1607.06450)."""

    eps: float = 1e-6
    bias: bool = True

    def build(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim, eps=self.eps, bias=self.bias)


class RmsNorm(Norm):
    """Scales each token to a root mean square of 1 over its channels, without centring it (arXiv 1910.07467)."""

    eps: float = 1e-6

    def build(self, dim: int) -> nn.Module:
        return nn.RMSNorm(dim, eps=self.eps)


class BatchNorm(Norm):
    """Normalises each channel over batch and positions (arXiv 1502.03167). `zero_init`: a branch that starts at 0."""

    eps: float = 1e-5
    momentum: float = 0.1
    zero_init: bool = False

    def build(self, dim: int) -> nn.Module:
        module = BatchNormModule(dim, eps=self.eps, momentum=self.momentum)
        if self.zero_init:
            nn.init.zeros_(module.weight)
        return module


class BatchNormModule(nn.BatchNorm2d):
    fused = acted_batch_norm

    def forward(self, input: Tensor) -> Tensor:
        return batch_norm(self, input)


class GroupNorm(Norm):
    """Normalises groups of channels of one image over all its positions (arXiv 1803.08494)."""

    groups: int = 32
    eps: float = 1e-5
    bias: bool = True

    def build(self, dim: int) -> nn.Module:
        if dim % self.groups:
            raise SpecError(f"GroupNorm: {self.groups} groups do not divide width {dim}")
        module = GroupNormModule(self.groups, dim, eps=self.eps)
        if not self.bias:
            module.register_parameter("bias", None)
        return module


class GroupNormModule(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:
        return group_norm(self, input)
