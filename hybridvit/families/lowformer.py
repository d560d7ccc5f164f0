"""LowFormer: convolutions, and attention at a lower resolution and in half the channels (arXiv 2409.03460)."""

from torch import Tensor, nn

from .. import components as c
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, Stage, classifier, conv_to_linear, renames
from .efficientvit_mit import body_rules, conv_body

NORM, CONV = c.GroupNorm(groups=1), c.Conv(dim=1, norm=c.BatchNorm(), act="hard_swish")


class LowAttention(c.Mixer):
    """Attention between every `stride`-th position, with filters in front; it is spread to all of them behind."""

    stride: int
    heads: int
    head_dim: int


@c.module_of(LowAttention)
class LowAttentionModule(nn.Module):
    def __init__(self, spec: LowAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, inner, stride = spec.heads, spec.heads * spec.head_dim, spec.stride
        self.down = c.Conv(dim=dim, kernel=2 * stride + 1, stride=stride, groups=dim, norm=CONV.norm)
        self.filters = self.down.build(dim, grid)
        self.qkv = c.linear(dim, 3 * inner, bias=False)
        self.attend = c.ScaledDotProduct(spec.head_dim**-0.5)
        self.spread = nn.ConvTranspose2d(inner, dim, stride + 2, stride, padding=1)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        heads = c.split_heads(self.qkv(self.filters(tokens, grid)), self.heads)
        mixed = c.join_heads(self.attend(*heads.chunk(3, dim=3)))
        map_ = self.spread(c.tokens_to_map(mixed, self.down.out_grid(grid)))
        return c.crop_map(c.map_to_tokens(map_), Grid(*map_.shape[2:]), grid)


def lowformer(
    *,
    width: int,
    depths: PerStage,
    ratio: int = 6,
    attends: bool = True,
    mlp: bool = True,
    head_dims: tuple[int, int] = (1536, 1600),
) -> Model:
    """A LowFormer of given depths, `width` that of its stem, doubled at each stride, and `ratio` that of its strides.

    Without `attends` or `mlp` its last two stages have no such branches.
    """

    def stage(index: int) -> Stage:
        dim = width << index
        enter = conv_body(dim // 2, dim, ratio, CONV.replace(stride=2), fused=True)
        plain = c.residual_block(conv_body(dim, dim, 4, CONV, fused=True))
        if not index:
            return Stage(enter=CONV.replace(dim=dim, kernel=3, stride=2), blocks=(plain,) * depths[0])
        if index < 3:
            return Stage(enter=enter, blocks=(plain,) * (depths[index] - 1))
        heads, norm = max(1, dim // 60), NORM if mlp else None
        attention = LowAttention(stride=5 - index, heads=heads, head_dim=dim // heads // 2)
        first, *others = conv_body(dim, dim, 4, CONV, fused=dim < 256, fewer=dim >= 256).steps
        mixers = (attention,) * attends + (c.Mlp(hidden=4 * dim),) * mlp
        convs = c.Branch(mixer=c.Steps(steps=(first.replace(bias=True), *others)))
        branches = (*(c.Branch(mixer=mixer, norm=norm) for mixer in mixers), convs)
        return Stage(enter=enter, blocks=(c.Block(branches=branches),) * depths[index])

    after = c.Linear(dim=head_dims[1], bias=False, norm=c.LayerNorm(eps=1e-5), act=CONV.act)
    pool = c.MeanPool(before=CONV.replace(dim=head_dims[0]), after=after)
    return classifier(map(stage, range(len(depths))), pool)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    rules = renames("", "", "stem.0=stages.0.enter in_conv=pool.before classifier=head")
    rules += renames("pre_classifier", "pool.after", "0=linear 1=norm")
    for s, stage in enumerate(model.stages):
        theirs, ours = f"stages.{s - 1}" if s else "stem", f"stages.{s}"
        block, branches = f"{theirs}.{{b+1}}", f"{ours}.blocks.{{b}}.branches"
        if s:
            rules += body_rules(f"{theirs}.0.main", f"{ours}.enter", stage.enter)
        for i, branch in enumerate(stage.blocks[0].branches if stage.blocks else ()):
            place, mixer = f"{branches}.{i}", f"{branches}.{i}.mixer"
            if isinstance(branch.mixer, LowAttention):
                attention = f"{block}.attn.main.1" if branch.norm else f"{block}.attn.main"
                rules += renames(block, place, "attn.main.0=norm")
                rules += renames(attention, mixer, "conv_proj=filters upsampling=spread")
                rules += renames(attention, mixer, "pwise=qkv", conv_to_linear)
            elif isinstance(branch.mixer, c.Mlp):
                rules += renames(block, place, "mlp.main.0=norm")
                rules += renames(f"{block}.mlp.main", mixer, "1=fc1 3=fc2", conv_to_linear)
            else:
                rules += body_rules(f"{block}.local.main" if s > 2 else f"{block}.main", mixer, branch.mixer)
    return KeyRules(rules)


BIG = {"head_dims": (2304, 2560)}
SIZES: Sizes = {
    "lowformer_b0": {"width": 16, "depths": (0, 1, 1, 3, 4), "ratio": 4},
    "lowformer_b1": {"width": 16, "depths": (0, 1, 1, 5, 5)},
    "lowformer_b15": {"width": 20, "depths": (0, 1, 1, 6, 6)} | BIG,
    "lowformer_b2": {"width": 24, "depths": (0, 1, 1, 6, 6)} | BIG,
    "lowformer_b3": {"width": 32, "depths": (1, 2, 3, 6, 6)},
    "lowformer_e1": {"width": 20, "depths": (0, 1, 1, 4, 4), "attends": False, "mlp": False} | BIG,
    "lowformer_e2": {"width": 32, "depths": (1, 2, 3, 4, 4), "attends": False, "mlp": False},
    "lowformer_e3": {"width": 32, "depths": (1, 2, 3, 6, 6), "mlp": False},
}
FAMILY = Family("lowformer", "arXiv 2409.03460", lowformer, SIZES, {"timm": timm_rules})
