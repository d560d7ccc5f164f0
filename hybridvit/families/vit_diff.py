"""ViTs of differential attention (arXiv 2410.05258), without a class token; `dpwee` has MLPs beside it (2302.05442)."""

import math

import torch
from torch import Tensor, nn

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import NORM, Width, named_sizes, vit_stage
from . import Family, Grid, KeyRules, Model, Rename, Rule, Sizes, Split, classifier, renames
from .vit_parallel import hidden_of, side_by_side, side_by_side_rules

WIDTHS = {"dwee": Width(256, 14, 4, 5), "dpwee": Width(256, 16, 4, 5), "dlittle": Width(320, 14, 5, 5.6)}


class DifferentialAttention(c.Mixer):
    """What one softmax gathers, less a learned share of what another does (arXiv 2410.05258).

    `share` is where that share starts. Among the attention maps the two of a head are neighbours.
    """

    heads: int
    share: float
    proj_bias: bool = True


@c.module_of(DifferentialAttention)
class DifferentialAttentionModule(nn.Module):
    def __init__(self, spec: DifferentialAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        width = c.head_width(spec.kind, dim, 2 * spec.heads)
        self.heads, self.share = spec.heads, spec.share
        self.qkv = c.linear(dim, 3 * dim)
        factors = (nn.Parameter(0.1 * torch.randn(width)) for _ in range(4))
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = factors
        self.attend = c.ScaledDotProduct(width**-0.5)
        self.sub_norm = c.RmsNorm(eps=1e-5).build(2 * width)
        self.proj = c.linear(dim, dim, bias=spec.proj_bias)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, dim=2)
        query, key = (c.split_heads(part, 2 * self.heads) for part in (query, key))
        value = c.split_heads(value, self.heads).repeat_interleave(2, dim=1)
        first, second = self.attend(query, key, value).unflatten(1, (self.heads, 2)).unbind(2)
        moved = (self.lambda_q1 * self.lambda_k1).sum().exp() - (self.lambda_q2 * self.lambda_k2).sum().exp()
        mixed = (1 - self.share) * self.sub_norm(first - (moved + self.share) * second)
        return self.proj(c.join_heads(mixed))


def vit_diff(*, width: str, patch: int, parallel: bool = False) -> Model:
    """A ViT of a named width. The share of the second softmax starts at 0.2 in the first block, and tends to 0.8."""
    of = WIDTHS[width]
    mlp = c.Mlp(hidden=of.hidden)
    shares = [0.8 - 0.6 * math.exp(-0.3 * index) for index in range(of.depth)]
    # Side by side the two have one bias behind them, that of the MLP.
    attentions = [DifferentialAttention(heads=of.heads, share=share, proj_bias=not parallel) for share in shares]
    block = side_by_side if parallel else c.transformer_block
    stage = vit_stage(enter=patch, width=of, position=c.LearnedPosition(on_prefix=False))
    stage = stage.replace(blocks=tuple(block(attention, mlp, NORM, 1e-5) for attention in attentions))
    return classifier((stage,), c.MeanPool(post_norm=NORM))


def parallel_rules(model: Model) -> list[Rule]:
    """timm's names of the blocks with MLPs beside the attention: one layer is behind both."""
    dim, mixer = model.stages[0].enter.out_dim(model.in_chans), "stages.0.blocks.{b}.branches.0.mixer"
    weights = (f"{mixer}.shortcut.proj.weight", f"{mixer}.body.fc2.weight")
    parts = "sub_norm lambda_q1 lambda_k1 lambda_q2 lambda_k2"
    return [
        Split("blocks.{b}.out_proj.weight", weights, dim=1, sizes=(dim, hidden_of(model))),
        Rename("blocks.{b}.out_proj.bias", f"{mixer}.body.fc2.bias"),
        *renames("blocks.{b}", f"{mixer}.shortcut", parts),
        *side_by_side_rules(model),
    ]


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    parallel = len(model.stages[0].blocks[0].branches) == 1
    return timm_vit_rules(model, class_token=False, first=parallel_rules(model) if parallel else ())


SIZES: Sizes = named_sizes("vit_{dwee,dlittle}_patch16_reg1_gap_256")
SIZES |= named_sizes("vit_dpwee_patch16_reg1_gap_256", parallel=True)
FAMILY = Family("vit_diff", "arXiv 2410.05258", vit_diff, SIZES, {"timm": timm_rules})
