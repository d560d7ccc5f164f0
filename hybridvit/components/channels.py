"""Attention between channels instead of between positions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Grid, Mixer, module_of
from .activations import linear
from .attention import ChannelProduct, head_width


class CrossCovarianceAttention(Mixer):
    """Attention between the channels of a head instead of between positions (arXiv 2106.09681).

    The scores are cosines of two channels over all positions, times a learned factor a head. They say which channel
    takes from which, and so do its attention maps; of positions there is no map to see.
    """

    heads: int


@module_of(CrossCovarianceAttention)
class CrossCovarianceModule(nn.Module):
    def __init__(self, spec: CrossCovarianceAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        head_width(spec.kind, dim, spec.heads)
        self.heads = spec.heads
        self.factor = nn.Parameter(torch.ones(spec.heads, 1, 1))
        self.qkv = linear(dim, 3 * dim)
        self.attend = ChannelProduct(1.0)
        self.proj = linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        # (B, N, 3 * heads * d) -> three of (B, heads, d, N)
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 4, 1).unbind(0)
        mixed = self.attend(F.normalize(query, dim=-1) * self.factor, F.normalize(key, dim=-1), value)
        return self.proj(mixed.flatten(1, 2).transpose(1, 2).contiguous())
