"""Visformer: a transformer with the stages, batch norms and first convolutions of a ResNet (arXiv 2104.12533)."""

from ..components import Attention, BatchNorm, Block, Branch, Conv, LinearHead, MeanPool, Patchify, Steps
from ..components.positions import LearnedPosition
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, Rule, conv_to_linear
from ..layouts import map_to_table
from ..spec import Grid
from . import Family, Sizes

NORM = BatchNorm()


def visformer(*, stem: int, dim: int, heads: int, depths: tuple[int, int, int] = (7, 4, 4)) -> Model:
    """A Visformer of a given width of the stem and of the middle stage; the first is half as wide, the last twice."""
    embed = Patchify(dim=dim // 2, patch=4, norm=NORM)
    first = Steps(steps=(Conv(dim=stem, kernel=7, stride=2, norm=NORM, act="relu"), embed))
    wide = Conv(dim=dim, act="gelu")
    convs = Steps(steps=(wide, wide.replace(kernel=3, groups=8), Conv(dim=dim // 2)))
    stages = [Stage(enter=first, position=LearnedPosition(), blocks=(_block(convs),) * depths[0])]
    for width, depth in ((dim, depths[1]), (2 * dim, depths[2])):
        attention = Attention(heads=heads, qkv_bias=False, proj_bias=False)
        mlp = Steps(steps=(Conv(dim=4 * width, act="gelu"), Conv(dim=width)))
        enter = embed.replace(dim=width, patch=2)
        stages.append(Stage(enter=enter, position=LearnedPosition(), blocks=(_block(attention, mlp),) * depth))
    return Model(stages=tuple(stages), pool=MeanPool(norm=NORM), head=LinearHead())


def _block(*mixers: Steps | Attention) -> Block:
    return Block(branches=tuple(Branch(mixer=mixer, norm=NORM) for mixer in mixers))


SIZES: Sizes = {
    "visformer_tiny": {"stem": 16, "dim": 192, "heads": 3},
    "visformer_small": {"stem": 32, "dim": 384, "heads": 6},
}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, whose stages count from 1."""
    grid, rules = Grid(*model.img_size), list[Rule]()
    for s, stage in enumerate(model.stages):
        grid = stage.out_grid(grid)
        theirs, ours = f"stage{s + 1}.{{b}}", f"stages.{s}.blocks.{{b}}.branches"
        enter = f"stages.{s}.enter" if s else "stages.0.enter.steps.1"
        convs = (1, 3) if s else (1, 2, 3)
        branch = 1 if s else 0
        rules += [
            Rename(f"patch_embed{s + 1}.proj", f"{enter}.conv"),
            Rename(f"patch_embed{s + 1}.norm", f"{enter}.norm"),
            map_to_table(f"pos_embed{s + 1}", f"stages.{s}.position.table", grid),
            *([Rename(f"{theirs}.norm1", f"{ours}.0.norm")] if s else []),
            conv_to_linear(f"{theirs}.attn.qkv", f"{ours}.0.mixer.qkv"),
            conv_to_linear(f"{theirs}.attn.proj", f"{ours}.0.mixer.proj"),
            Rename(f"{theirs}.norm2", f"{ours}.{branch}.norm"),
        ]
        for step, number in enumerate(convs):
            rules.append(Rename(f"{theirs}.mlp.conv{number}", f"{ours}.{branch}.mixer.steps.{step}.conv"))
    rules += [
        Rename("stem.0", "stages.0.enter.steps.0.conv"),
        Rename("stem.1", "stages.0.enter.steps.0.norm"),
        Rename("norm", "pool.norm"),
        Rename("head", "head"),
    ]
    return KeyRules(rules)


FAMILY = Family(name="visformer", paper="arXiv 2104.12533", build=visformer, sizes=SIZES, layouts={"timm": timm_rules})
