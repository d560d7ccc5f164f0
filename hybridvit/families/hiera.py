"""Hiera: a pyramid of plain transformer blocks, in windows at first, that shrinks by pooling (arXiv 2306.00989).

The `abswin` models repeat a position table for one window over a coarser one for the image (2311.05613).
"""

from torch import Tensor, nn

from .. import components as c
from ..layouts import counted_blocks
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, SpecError, Stage, classifier, renames

NORM, POOL = c.LayerNorm(eps=1e-6), c.MaxPool(kernel=2, stride=2, padding="same")


class PoolingAttention(c.Halving):
    """Attention whose queries are the maxima of squares of four positions, in windows `window` wide or everywhere."""

    heads: int
    window: int | None


@c.module_of(PoolingAttention, prefix=False)
class PoolingAttentionModule(nn.Module):
    def __init__(self, spec: PoolingAttention, in_dim: int, grid: Grid) -> None:
        super().__init__()
        if spec.window and spec.window % POOL.stride:
            raise SpecError(f"{spec.kind}: squares of {POOL.stride} do not divide windows of {spec.window}")
        self.spec, self.heads = spec, spec.heads
        self.qkv = c.linear(in_dim, 3 * spec.dim)
        self.attend = c.ScaledDotProduct(c.head_width(spec.kind, spec.dim, spec.heads) ** -0.5)
        self.proj = c.linear(spec.dim, spec.dim)
        self.pool = POOL.build(spec.dim, Grid(1, 1))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        window = whole = grid
        if self.spec.window:
            window = Grid(self.spec.window, self.spec.window)
            whole = c.whole_windows(grid, window)
        query, *rest = self.qkv(c.to_windows(c.pad_map(tokens, grid, whole), whole, window)).chunk(3, dim=2)
        mixed = self.proj(self.attend.in_heads(self.heads, self.pool(query, window), *rest))
        halves = self.spec.out_grid(whole), self.spec.out_grid(window)
        return c.crop_map(c.from_windows(mixed, tokens.shape[0], *halves), halves[0], self.spec.out_grid(grid))


def hiera(*, dim: int, depths: PerStage, heads: int = 1, coarse: int | None = None, expand: bool = True) -> Model:
    """A Hiera of given first width and depths. `coarse`: the side of the image's table in an `abswin` model.

    Shortcuts across stages are `expand`ed by a layer; otherwise maximum and mean stand side by side.
    """
    stages: list[Stage] = []
    layer_scale, img_size = (1e-5, 256) if coarse else (None, 224)
    for index, depth in enumerate(depths):
        width, count, window = dim << index, heads << index, 8 >> index
        attention, mlp = c.Attention(heads=count), c.Mlp(hidden=4 * width)
        windowed = c.WindowAttention(attention=attention, window=(window, window))
        block = c.transformer_block(windowed if index < 2 else attention, mlp, NORM, layer_scale)
        if index:
            # The window that pools is that of the stage before.
            pooling = PoolingAttention(dim=width, heads=count, window=2 * window if index < 3 else None)
            body = c.Steps(steps=(pooling, c.LayerScale(initial=layer_scale) if layer_scale else c.Identity()))
            layer, norm = c.Steps(steps=(c.Linear(dim=width), POOL)), c.Normalize(norm=NORM)
            wide = c.Steps(steps=(norm, c.Add(shortcut=layer, body=body)))
            both = c.Add(shortcut=c.Join(parts=(POOL, c.AvgPool())), body=c.Steps(steps=(norm, body)))
            first = block.replace(branches=block.branches[1:])
            stages.append(Stage(enter=wide if expand else both, blocks=(first, *(block,) * (depth - 1))))
        else:
            patches = c.Conv(dim=width, kernel=7, stride=4, bias=True)
            position = c.WindowedPosition(coarse=coarse, window=window) if coarse else c.LearnedPosition()
            stages.append(Stage(enter=patches, position=position, blocks=(block,) * depth))
    return classifier(stages, c.MeanPool(post_norm=NORM), img_size)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, which counts blocks across stages; the first of a stage is our entrance and MLP."""
    table = "coarse" if isinstance(model.stages[0].position, c.WindowedPosition) else "table"
    rules = renames("", "stages.0", f"patch_embed.proj=enter.conv pos_embed=position.{table}")
    rules += renames("", "", "pos_embed_win=stages.0.position.window head.norm=pool.post_norm head.fc=head")
    for count, s, b in counted_blocks(model):
        theirs, ours, mlp = f"blocks.{count}", f"stages.{s}.blocks.{b}.branches", 1
        if s and not b:
            expand, mlp = isinstance(model.stages[s].enter, c.Steps), 0
            norm, body = ("steps.0", "steps.1.body") if expand else ("body.steps.0", "body.steps.1")
            first = f"norm1={norm}.norm proj=steps.1.shortcut.steps.0.linear attn={body}.steps.0"
            rules += renames(theirs, f"stages.{s}.enter", f"{first} ls1.gamma={body}.steps.1.gamma")
        else:
            attention = "mixer.attention" if s < 2 else "mixer"
            rules += renames(theirs, f"{ours}.0", f"norm1=norm attn={attention} ls1.gamma=layer_scale")
        rules += renames(theirs, f"{ours}.{mlp}", "norm2=norm mlp=mixer ls2.gamma=layer_scale")
    return KeyRules(rules)


SIZES: Sizes = {
    "hiera_tiny_224": {"dim": 96, "depths": (1, 2, 7, 2)},
    "hiera_small_224": {"dim": 96, "depths": (1, 2, 11, 2)},
    "hiera_base_224": {"dim": 96, "depths": (2, 3, 16, 3)},
    "hiera_base_plus_224": {"dim": 112, "depths": (2, 3, 16, 3), "heads": 2},
    "hiera_large_224": {"dim": 144, "depths": (2, 6, 36, 4), "heads": 2},
    "hiera_huge_224": {"dim": 256, "depths": (2, 6, 36, 4), "heads": 4},
    "hiera_small_abswin_256": {"dim": 96, "depths": (1, 2, 11, 2), "coarse": 16, "expand": False},
    "hiera_base_abswin_256": {"dim": 96, "depths": (2, 3, 16, 3), "coarse": 14},
}
FAMILY = Family("hiera", "arXiv 2306.00989", hiera, SIZES, {"timm": timm_rules})
