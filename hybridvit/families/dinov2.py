"""DINOv2 (arXiv 2304.07193), with and without registers (2309.16588), and TIPSv2 (2604.12012), which is built alike.

The `giant` ones have gated MLPs. Where there are registers, no prefix token has a position.
"""

import torch
from torch import Tensor, nn

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_stage
from . import Family, Grid, Model, Sizes, classifier

WIDTHS = WIDTHS | {"giant": Width(1536, 40, 24, mlp_ratio=4096 / 1536)}


class TokenAndMeanPool(c.Pool):
    """The class token and the mean over the grid tokens side by side, both normalised: what its classifiers read."""

    norm: c.Norm

    def out_dim(self, in_dim: int) -> int:
        return 2 * in_dim


@c.module_of(TokenAndMeanPool)
class TokenAndMeanPoolModule(nn.Module):
    def __init__(self, spec: TokenAndMeanPool, dim: int, grid: Grid) -> None:
        super().__init__()
        self.norm = spec.norm.build(dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        tokens = self.norm(tokens)
        return torch.cat([tokens[:, 0], tokens[:, grid.prefix :].mean(dim=1)], dim=1)


def dinov2(*, width: str, patch: int, registers: int = 0, layer_scale: float = 1e-5) -> Model:
    """A DINOv2 of a named width."""
    of = WIDTHS[width]
    mlp = c.GatedMlp(hidden=of.hidden) if width == "giant" else c.Mlp(hidden=of.hidden)
    tokens, position = 1 + registers, c.LearnedPosition(on_prefix=not registers)
    stage = vit_stage(enter=patch, width=of, prefix=tokens, position=position, mlp=mlp, layer_scale=layer_scale)
    return classifier((stage,), c.TokenPool(norm=NORM)).replace(num_classes=0)


SIZES: Sizes = (
    named_sizes("vit_{small,base,large,giant}_patch14_dinov2", img_size=518)
    | named_sizes("vit_{small,base,large,giant}_patch14_reg4_dinov2", img_size=518, registers=4)
    | named_sizes("vit_{base,large,so400m,giant}_patch14_reg1_tipsv2", img_size=448, registers=1, layer_scale=1.0)
)
FAMILY = Family("dinov2", "arXiv 2304.07193", dinov2, SIZES, {"timm": timm_vit_rules})
