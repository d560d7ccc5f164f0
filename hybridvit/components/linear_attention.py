"""Attention without weights of pairs of positions: its cost grows with the number of positions, not its square."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..kernels import without_autocast
from ..spec import Grid, Mixer, Norm, SpecError, module_of
from .activations import linear
from .attention import ChannelProduct, ScaledDotProduct, head_width, unit
from .convs import Conv
from .transitions import Steps


class LinearProduct(ScaledDotProduct):
    """Means of the values (B, heads, N, d), weighed by products of rectified queries and keys.

    A query meets the sum over all positions of keys times values, so the weights of pairs are made for maps alone.
    """

    eps = 1e-5

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        with without_autocast(query):
            sums = F.relu(key).transpose(2, 3) @ F.pad(value, (0, 1), value=1.0)
            mixed = F.relu(query) @ sums
        return mixed[..., :-1] / (mixed[..., -1:] + self.eps)

    def weights(self, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
        """The share of each position in the mean; a query that no key answers takes from all alike."""
        with without_autocast(query):
            products = F.relu(query) @ F.relu(key).transpose(2, 3) + 1e-20
        return products / products.sum(dim=-1, keepdim=True)


class ScaledLinearAttention(Mixer):
    """Linear attention with rectified queries and keys, of the map and of the map blurred by filters.

    As in EfficientViT (arXiv 2205.14756). Sums are in single precision at least, for they grow with the image.
    """

    head_dim: int
    norm: Norm | None
    kernel: int = 5


@module_of(ScaledLinearAttention, prefix=False)
class ScaledLinearAttentionModule(nn.Module):
    def __init__(self, spec: ScaledLinearAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        if dim % spec.head_dim:
            raise SpecError(f"{spec.kind}: heads of {spec.head_dim} channels do not divide width {dim}")
        self.head_dim, wide = spec.head_dim, 3 * dim
        self.qkv = Conv(dim=wide).build(dim, grid)
        filters = Conv(dim=wide, kernel=spec.kernel, groups=wide)
        self.blur = Steps(steps=(filters, Conv(dim=wide, groups=wide // spec.head_dim))).build_keeping(wide, grid)
        self.attend = LinearProduct(1.0)
        self.proj = Conv(dim=dim, bias=not spec.norm, norm=spec.norm).build(2 * dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        qkv = self.qkv(tokens, grid)
        heads = torch.cat([qkv, self.blur(qkv, grid)], dim=-1).unflatten(2, (-1, 3 * self.head_dim)).transpose(1, 2)
        heads = heads.to(torch.promote_types(heads.dtype, torch.float32))
        mixed = self.attend(*heads.chunk(3, dim=-1))
        return self.proj(mixed.transpose(1, 2).flatten(2).to(tokens.dtype), grid)


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
        mixed = self.attend(unit(query) * self.factor, unit(key), value)
        return self.proj(mixed.flatten(1, 2).transpose(1, 2).contiguous())
