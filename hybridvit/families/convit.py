"""ConViT: attention that starts out as a convolution and learns to let go (arXiv 2103.10697).

In its first blocks every head has a gate between where it looks by content and where it looks by position.
"""

import torch
from torch import Tensor, nn

from .. import components as c
from ..kernels import Keeping, plain
from ..layouts import HEAD_RULES, counted_blocks
from ..trunks import NORM
from . import Family, Grid, KeyRules, Model, Sizes, Stage, classifier, renames


class GatedPositionalAttention(c.Mixer):
    """A mean of two attentions, by content and by position, weighted by a learned gate a head."""

    heads: int


class GatedDotProduct(c.ScaledDotProduct):
    """Weights by content, and weights by position, given in place of a bias, mixed by a gate a head."""

    def __init__(self, scale: float, heads: int) -> None:
        super().__init__(scale)
        self.gate = nn.Parameter(torch.ones(heads))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        assert bias is not None
        compiled = torch.compiler.is_dynamo_compiling() and query.is_cpu and not query.requires_grad
        if compiled or plain(query, self.gate):  # on a CPU the fused kernel is no faster than its two products
            return self.weights(query, key, bias) @ value
        gate = self.gate.sigmoid()[:, None, None]
        return (1 - gate) * super().forward(query, key, value) + gate * (bias @ value)

    def weights(self, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
        """The mean of both, (B, heads, N, N)."""
        assert bias is not None
        return super().weights(query, key).lerp(bias, self.gate.sigmoid()[:, None, None])


@c.module_of(GatedPositionalAttention, prefix=False)
class GatedPositionalAttentionModule(Keeping):
    def __init__(self, spec: GatedPositionalAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads = spec.heads
        self.query_key = c.linear(dim, 2 * dim, bias=False)
        self.value = c.linear(dim, dim, bias=False)
        self.position = c.linear(3, spec.heads)
        self.attend = GatedDotProduct(c.head_width(spec.kind, dim, spec.heads) ** -0.5, spec.heads)
        self.proj = c.linear(dim, dim)
        self._start_as_convolution()

    def _start_as_convolution(self) -> None:
        """Every head looks at one of the positions of a square around its own, and hands its value on."""
        side = int(self.heads**0.5)
        places = torch.arange(side) - (side - 1) / 2
        with torch.no_grad():
            nn.init.eye_(self.value.weight)
            self.position.weight[: side**2, 0] = 2 * places.repeat_interleave(side)
            self.position.weight[: side**2, 1] = 2 * places.repeat(side)
            self.position.weight[: side**2, 2] = -1

    def by_position(self, grid: Grid) -> Tensor:
        """Weights (1, heads, N, N): the softmax of a linear layer of a key's offset right, down, and squared."""
        like = self.position.weight
        # Offsets are from the query to the key, and `by_pair` takes the value at that from the key to the query.
        down, right = (-torch.arange(1.0 - size, size, device=like.device)[:, None] for size in grid.size)
        down, right = down.expand(-1, right.shape[0]), right.T.expand(down.shape[0], -1)
        offsets = torch.stack([right, down, right**2 + down**2], dim=-1).to(like.dtype)
        return c.by_pair(self.position(offsets), grid).softmax(dim=-1).unsqueeze(0)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query, key = self.query_key(tokens).chunk(2, dim=2)
        positions = self.kept_for(grid, lambda: self.by_position(grid), of=self.position.parameters())
        return self.proj(self.attend.in_heads(self.heads, query, key, self.value(tokens), positions))


def convit(*, heads: int, depth: int = 12, gated: int = 10, head_dim: int = 48) -> Model:
    """A ConViT whose first blocks, so many, are `gated`; the class token comes behind these."""
    dim = heads * head_dim
    mlp = c.Mlp(hidden=4 * dim)
    local = c.transformer_block(GatedPositionalAttention(heads=heads), mlp, NORM)
    last = c.transformer_block(c.Attention(heads=heads, qkv_bias=False), mlp, NORM)
    first = Stage(enter=c.Patchify(dim=dim, patch=16), position=c.LearnedPosition(), blocks=(local,) * gated)
    second = Stage(enter=c.Identity(), prefix=1, blocks=(last,) * (depth - gated))
    return classifier((first, second), c.TokenPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, in which blocks are counted through."""
    start = "patch_embed.proj=0.enter.conv pos_embed=0.position.table cls_token=1.prefix.tokens"
    gated = "attn.gating_param=attend.gate attn.pos_proj=position attn.qk=query_key attn.v=value attn="
    rules = renames("", "stages", start)
    for count, s, b in counted_blocks(model):
        theirs, ours = f"blocks.{count}", f"stages.{s}.blocks.{b}.branches"
        rules += renames(theirs, f"{ours}.0.mixer", gated)
        rules += renames(theirs, ours, "norm1=0.norm norm2=1.norm mlp=1.mixer")
    return KeyRules(rules, HEAD_RULES)


SIZES: Sizes = {"convit_tiny": {"heads": 4}, "convit_small": {"heads": 9}, "convit_base": {"heads": 16}}
FAMILY = Family("convit", "arXiv 2103.10697", convit, SIZES, {"timm": timm_rules})
