"""Visformer: a transformer with the stages, batch norms and first convolutions of a ResNet (arXiv 2104.12533)."""

from .. import components as c
from ..layouts import map_to_table
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, Stage, classifier, conv_to_linear, renames

NORM = c.BatchNorm()


def visformer(*, stem: int, dim: int, heads: int, depths: PerStage = (7, 4, 4)) -> Model:
    """A Visformer of a given width of the stem and of the middle stage; the first is half as wide, the last twice."""
    embed = c.Patchify(dim=dim // 2, patch=4, norm=NORM)
    first = c.Steps(steps=(c.Conv(dim=stem, kernel=7, stride=2, norm=NORM, act="relu"), embed))
    wide = c.Conv(dim=dim, act="gelu")
    convs = c.Steps(steps=(wide, wide.replace(kernel=3, groups=8), c.Conv(dim=dim // 2)))
    block = c.residual_block(convs, norm=NORM)
    stages = [Stage(enter=first, position=c.LearnedPosition(), blocks=(block,) * depths[0])]
    for width, depth in ((dim, depths[1]), (2 * dim, depths[2])):
        attention = c.Attention(heads=heads, qkv_bias=False, proj_bias=False)
        mlp = c.Steps(steps=(c.Conv(dim=4 * width, act="gelu"), c.Conv(dim=width)))
        enter, block = embed.replace(dim=width, patch=2), c.residual_block(attention, mlp, norm=NORM)
        stages.append(Stage(enter=enter, position=c.LearnedPosition(), blocks=(block,) * depth))
    return classifier(stages, c.MeanPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, whose stages count from 1."""
    grid, rules = Grid(*model.img_size), renames("", "", "norm=pool.norm head")
    rules += renames("stem", "stages.0.enter.steps.0", "0=conv 1=norm")
    for s, stage in enumerate(model.stages):
        grid = stage.out_grid(grid)
        theirs, ours = f"stage{s + 1}.{{b}}", f"stages.{s}.blocks.{{b}}.branches"
        enter = f"stages.{s}.enter" if s else "stages.0.enter.steps.1"
        rules += renames(f"patch_embed{s + 1}", enter, "proj=conv norm")
        rules.append(map_to_table(f"pos_embed{s + 1}", f"stages.{s}.position.table", grid))
        if s:
            rules += renames(theirs, ours, "norm1=0.norm norm2=1.norm")
            rules += renames(f"{theirs}.attn", f"{ours}.0.mixer", "qkv proj", conv_to_linear)
            rules += renames(f"{theirs}.mlp", f"{ours}.1.mixer.steps", "conv1=0.conv conv3=1.conv")
        else:
            rules += renames(theirs, f"{ours}.0", "norm2=norm mlp.conv1=mixer.steps.0.conv")
            rules += renames(f"{theirs}.mlp", f"{ours}.0.mixer.steps", "conv2=1.conv conv3=2.conv")
    return KeyRules(rules)


SIZES: Sizes = {
    "visformer_tiny": {"stem": 16, "dim": 192, "heads": 3},
    "visformer_small": {"stem": 32, "dim": 384, "heads": 6},
}
FAMILY = Family("visformer", "arXiv 2104.12533", visformer, SIZES, {"timm": timm_rules})
