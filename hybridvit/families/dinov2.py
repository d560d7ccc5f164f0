"""DINOv2 (arXiv 2304.07193), with and without registers (2309.16588), and TIPSv2 (2604.12012), which is built alike.

The `giant` ones have gated MLPs. Where there are registers, no prefix token has a position.
"""

import torch
from torch import Tensor, nn

from ..components import Attention, GatedMlp, LearnedPosition, Mlp, Patchify, TokenPool, transformer_block
from ..layouts import timm_vit_rules
from ..spec import Pool
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_stage
from . import Family, Grid, Model, Norm, Sizes, classifier, module_of

WIDTHS = WIDTHS | {"giant": Width(1536, 40, 24, mlp_ratio=4096 / 1536)}


class TokenAndMeanPool(Pool):
    """The class token and the mean over the grid tokens side by side, both normalised: what its classifiers read."""

    norm: Norm

    def out_dim(self, in_dim: int) -> int:
        return 2 * in_dim


@module_of(TokenAndMeanPool)
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
    mlp = GatedMlp(hidden=of.hidden) if width == "giant" else Mlp(hidden=of.hidden)
    block, position = (
        transformer_block(Attention(heads=of.heads), mlp, NORM, layer_scale),
        LearnedPosition(on_prefix=not registers),
    )
    patches = Patchify(dim=of.dim, patch=patch)
    stage = vit_stage(enter=patches, width=of, prefix=1 + registers, position=position, block=block)
    return classifier((stage,), TokenPool(norm=NORM)).replace(num_classes=0)


TIPS = {"img_size": 448, "registers": 1, "layer_scale": 1.0}
SIZES: Sizes = (
    named_sizes("vit_{small,base,large,giant}_patch14_dinov2", img_size=518)
    | named_sizes("vit_{small,base,large,giant}_patch14_reg4_dinov2", img_size=518, registers=4)
    | named_sizes("vit_{base,large,so400m,giant}_patch14_reg1_tipsv2", **TIPS)
)
FAMILY = Family("dinov2", "arXiv 2304.07193", dinov2, SIZES, {"timm": timm_vit_rules})
