"""PiT: a ViT that halves its map twice, and carries its class token along (arXiv 2103.16302)."""

from torch import Tensor, nn

from .. import components as c
from ..layouts import map_to_table
from ..trunks import NORM
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, Stage, classifier, renames


class Apart(c.Around):
    """`body` for the map, and another transition for the prefix tokens."""

    prefix: c.Transition


@c.module_of(Apart)
class ApartModule(nn.Module):
    def __init__(self, spec: Apart, dim: int, grid: Grid) -> None:
        super().__init__()
        self.body = spec.body.build(dim, grid._replace(prefix=0))
        self.prefix = spec.prefix.build(dim, Grid(1, 1))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        prefix, positions = c.split_prefix(tokens, grid)
        positions = self.body(positions.contiguous(), grid._replace(prefix=0))
        return c.join_prefix(self.prefix(prefix, Grid(1, 1)), positions)


def pit(
    *, head_dim: int, heads: PerStage, depths: PerStage = (2, 6, 4), patch: int = 16, distilled: bool = False
) -> Model:
    """A PiT of given heads and depths, whose patches overlap by half. `distilled` adds a second token."""
    stages, tokens = list[Stage](), 1 + distilled
    for count, depth in zip(heads, depths, strict=True):
        dim = count * head_dim
        blocks = (c.transformer_block(c.Attention(heads=count), c.Mlp(hidden=4 * dim), NORM),) * depth
        if not stages:
            embed = c.Conv(dim=dim, kernel=patch, stride=patch // 2, padding=0, bias=True)
            stages.append(Stage(enter=embed, prefix=tokens, position=c.LearnedPosition(on_prefix=False), blocks=blocks))
        else:
            half = c.Conv(dim=dim, kernel=3, stride=2, groups=dim // 2, bias=True)
            stages.append(Stage(enter=Apart(body=half, prefix=c.Linear(dim=dim)), blocks=blocks))
    head = c.DistilledHead() if distilled else c.LinearHead()
    return classifier(stages, c.TokenPool(norm=NORM, tokens=tokens), head=head)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block, ours = "transformers.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches"
    grid = model.stages[0].out_grid(Grid(*model.img_size))
    heads = "head_dist=distillation_token head=class_token" if model.head == c.DistilledHead() else "head="
    return KeyRules(
        map_to_table("pos_embed", "stages.0.position.table", grid),
        renames("", "", "patch_embed.conv=stages.0.enter.conv cls_token=stages.0.prefix.tokens norm=pool.norm"),
        renames("transformers.{s}.pool", "stages.{s}.enter", "conv=body.conv fc=prefix.linear"),
        renames(block, ours, "norm1=0.norm attn=0.mixer norm2=1.norm mlp=1.mixer"),
        renames("", "head", heads),
    )


NUMBERS: Sizes = {
    "ti": {"head_dim": 32, "heads": (2, 4, 8)},
    "xs": {"head_dim": 48, "heads": (2, 4, 8)},
    "s": {"head_dim": 48, "heads": (3, 6, 12)},
    "b": {"head_dim": 64, "heads": (4, 8, 16), "depths": (3, 6, 4), "patch": 14},
}
SIZES = {f"pit_{name}_224": numbers for name, numbers in NUMBERS.items()}
SIZES |= {f"pit_{name}_distilled_224": numbers | {"distilled": True} for name, numbers in NUMBERS.items()}
FAMILY = Family("pit", "arXiv 2103.16302", pit, SIZES, {"timm": timm_rules})
