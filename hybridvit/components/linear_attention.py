"""Attention without weights of pairs of positions: its cost grows with the number of positions, not its square."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Grid, Mixer, Norm, SpecError
from .convs import Conv, refuse_prefix
from .transitions import Steps


class ScaledLinearAttention(Mixer):
    """Linear attention with rectified queries and keys, of the map and of the map blurred by filters.

    As in EfficientViT (arXiv 2205.14756). A query meets the sum over all positions of keys times values, so there are
    no weights to see. Sums are in single precision at least, for they grow with the image.
    """

    head_dim: int
    norm: Norm
    kernel: int = 5

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        refuse_prefix(self.kind, grid)
        if in_dim % self.head_dim:
            raise SpecError(f"{self.kind}: heads of {self.head_dim} channels do not divide width {in_dim}")
        return ScaledLinearAttentionModule(self, in_dim, grid)


class ScaledLinearAttentionModule(nn.Module):
    eps = 1e-5

    def __init__(self, spec: ScaledLinearAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.head_dim, wide = spec.head_dim, 3 * dim
        self.qkv = Conv(dim=wide).build(dim, grid)
        filters = Conv(dim=wide, kernel=spec.kernel, groups=wide)
        self.blur = Steps(steps=(filters, Conv(dim=wide, groups=wide // spec.head_dim))).build(wide, grid)
        self.proj = Conv(dim=dim, norm=spec.norm).build(2 * dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        qkv = self.qkv(tokens, grid)
        heads = torch.cat([qkv, self.blur(qkv, grid)], dim=-1).unflatten(2, (-1, 3 * self.head_dim)).transpose(1, 2)
        heads = heads.to(torch.promote_types(heads.dtype, torch.float32))
        query, key, value = heads.chunk(3, dim=-1)
        # Autocast knows no meta device.
        with nullcontext() if tokens.is_meta else torch.autocast(tokens.device.type, enabled=False):
            sums = F.relu(key).transpose(2, 3) @ F.pad(value, (0, 1), value=1.0)
            mixed = F.relu(query) @ sums
        mixed = mixed[..., :-1] / (mixed[..., -1:] + self.eps)
        return self.proj(mixed.transpose(1, 2).flatten(2).to(tokens.dtype), grid)
