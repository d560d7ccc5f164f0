"""MobileViT: inverted residuals, and from stride 8 on a transformer between convolutions (arXiv 2110.02178).

The transformer attends between patches: each position of a patch to those at the same place of all patches.
"""

from torch import Tensor, nn

from .. import components as c
from ..layouts import normed_renames
from . import Family, Grid, KeyRules, Model, Rule, Sizes, Stage, classifier, renames

HEADS, STEM, DEPTHS = 4, 16, (2, 4, 3)
CONV, NORM = c.Conv(dim=STEM, norm=c.BatchNorm(), act="silu"), c.LayerNorm(eps=1e-5)
FUSED = "stages.{s+1}.blocks.0.branches.0.mixer.steps"
BODY = f"{FUSED}.0.parts.1.steps"
LAYER = f"{BODY}.2.blocks.{{b}}.branches"


class BetweenPatches(c.Mixer):
    """Blocks, then a norm, on the positions at the same place of every square patch, for each place by itself.

    A map that the patch does not divide is stretched to the next size that it does, bilinearly, and shrunk again.
    """

    blocks: tuple[c.Block, ...]
    norm: c.Norm
    patch: int = 2


@c.module_of(BetweenPatches, prefix=False)
class BetweenPatchesModule(nn.Module):
    def __init__(self, spec: BetweenPatches, dim: int, grid: Grid) -> None:
        super().__init__()
        self.patch = Grid(spec.patch, spec.patch)
        patches = self.patches(c.whole_windows(grid, self.patch))
        self.blocks = nn.ModuleList(block.build(dim, patches) for block in spec.blocks)
        self.norm = spec.norm.build(dim)

    def patches(self, grid: Grid) -> Grid:
        return Grid(grid.height // self.patch.height, grid.width // self.patch.width)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        whole = c.whole_windows(grid, self.patch)
        patches = self.patches(whole)
        places = c.to_windows(c.resize_map(tokens, grid, whole), whole, patches, "grid")
        for block in self.blocks:
            places = block(places, patches)
        return c.resize_map(c.from_windows(self.norm(places), tokens.shape[0], whole, patches, "grid"), whole, grid)


def residual_stages(stem: int, dims: tuple[int, ...], depth: int, expand: int) -> list[Stage]:
    """The stem, one inverted residual, and `depth` of them at stride 4; all hidden widths are `expand` fold."""
    first, second = dims
    body = c.inverted_residual(first, expand * stem, "silu")
    keeping = Stage(enter=c.Identity(), blocks=(c.residual_block(body),))
    block = c.residual_block(c.inverted_residual(second, expand * second, "silu"))
    down = c.inverted_residual(second, expand * first, "silu", stride=2)
    return [
        Stage(enter=CONV.replace(dim=stem, kernel=3, stride=2)),
        keeping if first == stem else Stage(enter=body),
        Stage(enter=down, blocks=(block,) * (depth - 1)),
    ]


def mobilevit(*, dims: tuple[int, ...], inner: tuple[int, ...], last: int, expand: int = 4) -> Model:
    """A MobileViT of given widths of its five stages, of the transformers in three, and before the classifier."""
    stages = residual_stages(STEM, dims[:2], 3, expand)
    for in_dim, dim, width, depth in zip(dims[1:-1], dims[2:], inner, DEPTHS, strict=True):
        block = c.transformer_block(c.Attention(heads=HEADS), c.Mlp(hidden=2 * width, act="silu"), NORM)
        local = CONV.replace(dim=dim, kernel=3)
        between = BetweenPatches(blocks=(block,) * depth, norm=NORM)
        body = c.Steps(steps=(local, c.Conv(dim=width), between, CONV.replace(dim=dim)))
        fused = c.Branch(mixer=c.Steps(steps=(c.Join(parts=(c.Identity(), body)), local)), residual=False)
        down = c.inverted_residual(dim, expand * in_dim, "silu", stride=2)
        stages.append(Stage(enter=down, blocks=(c.Block(branches=(fused,)),)))
    return classifier(stages, c.MeanPool(before=CONV.replace(dim=last)), 256)


def residual_rules(theirs: str, ours: str) -> list[Rule]:
    """timm's names of the convolutions of an inverted residual."""
    return normed_renames(theirs, f"{ours}.steps", "conv1_1x1=0 conv2_kxk=1 conv3_1x1=2", "conv")


def first_residual(model: Model) -> str:
    """The place of the first inverted residual: a block, or if it widens, an entrance."""
    return "stages.1.blocks.0.branches.0.mixer" if model.stages[1].blocks else "stages.1.enter"


def end_rules(model: Model) -> list[Rule]:
    """timm's names of what both versions start and end with."""
    rules = normed_renames("", "", "stem=stages.0.enter final_conv=pool.before", "conv")
    rules += renames("", "", "head.fc=head")
    rules += residual_rules("stages.0.0", first_residual(model)) + residual_rules("stages.1.0", "stages.2.enter")
    return rules + residual_rules("stages.1.{b+1}", "stages.2.blocks.{b}.branches.0.mixer")


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    unit = "stages.{s}.1"
    rules = end_rules(model) + residual_rules("stages.{s}.0", "stages.{s+1}.enter")
    rules += normed_renames(unit, "", f"conv_kxk={BODY}.0 conv_proj={BODY}.3 conv_fusion={FUSED}.1", "conv")
    rules += renames(unit, BODY, "conv_1x1=1.conv norm=2.norm")
    rules += renames(f"{unit}.transformer.{{b}}", LAYER, "norm1=0.norm attn=0.mixer norm2=1.norm mlp=1.mixer")
    return KeyRules(rules)


SIZES: Sizes = {
    "mobilevit_xxs": {"dims": (16, 24, 48, 64, 80), "inner": (64, 80, 96), "last": 320, "expand": 2},
    "mobilevit_xs": {"dims": (32, 48, 64, 80, 96), "inner": (96, 120, 144), "last": 384},
    "mobilevit_s": {"dims": (32, 64, 96, 128, 160), "inner": (144, 192, 240), "last": 640},
}
FAMILY = Family("mobilevit", "arXiv 2110.02178", mobilevit, SIZES, {"timm": timm_rules})
