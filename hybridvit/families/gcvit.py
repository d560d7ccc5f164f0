"""GCViT: attention in windows, whose queries are in every second block one map of the whole image (arXiv 2206.09959).

That map is computed where a stage begins. It goes through the stage as prefix tokens, and is left behind at its end.
Windows are not of a size but of a number: they grow with the image.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from .. import components as c
from ..layouts import excite_rules
from . import Family, Grid, KeyRules, Model, Numbers, PerStage, Rule, Sizes, SpecError, Stage, classifier, renames

HEAD_WIDTH, NORM = 32, c.LayerNorm(eps=1e-5)
# How often the map is halved until it has the size of a window, of which there are as many along each axis.
HALVINGS = (3, 2, 0, 0)


class ContextAttention(c.Mixer):
    """Attention in `windows` x `windows` windows of the map behind the prefix, whose own update is 0.

    `shared`: the prefix, of a window's size, holds the queries of every window. A map that does not divide is padded
    with zeros, which take part as keys.
    """

    heads: int
    windows: int
    norm: c.Norm
    shared: bool = False

    def window(self, grid: Grid) -> Grid:
        """The size of the windows of a map."""
        return Grid(*(c.fewer(size, self.windows) for size in grid.size))


@c.module_of(ContextAttention)
class ContextAttentionModule(nn.Module):
    def __init__(self, spec: ContextAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        window = spec.window(grid)
        if spec.shared and grid.prefix != window.tokens:
            raise SpecError(f"{spec.kind}: {grid.prefix} prefix tokens are not {window.tokens} queries of a window")
        self.spec, self.heads = spec, spec.heads
        self.norm = spec.norm.build(dim)
        self.qkv = c.linear(dim, (2 if spec.shared else 3) * dim)
        self.bias = c.RelativePositionBias().build(spec.heads, window)
        self.attend = c.ScaledDotProduct(c.head_width(spec.kind, dim, spec.heads) ** -0.5)
        self.proj = c.linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        queries, tokens = c.split_prefix(tokens, grid)
        window, count = self.spec.window(grid), self.spec.windows
        whole = Grid(count * window.height, count * window.width)
        windows = c.to_windows(c.pad_map(self.norm(tokens), grid, whole), whole, window)
        parts = self.qkv(windows).split(tokens.shape[2], dim=2)
        if self.spec.shared:
            parts = queries[:, None].expand(-1, count**2, -1, -1).flatten(0, 1), *parts
        query, key, value = parts
        mixed = self.proj(self.attend.in_heads(self.heads, query, key, value, self.bias(window).unsqueeze(0)))
        update = c.crop_map(c.from_windows(mixed, tokens.shape[0], whole, window), whole, grid)
        return F.pad(update, (0, 0, grid.prefix, 0))


def mbconv(dim: int) -> c.Add:
    """Filter each channel, excite, mix channels, with a shortcut and no norm."""
    filters, excite = c.Conv(dim=dim, kernel=3, groups=dim, act="gelu"), c.excite_part(dim)
    return c.Add(body=c.Steps(steps=(filters, excite.replace(act="gelu", bias=False), c.Conv(dim=dim))))


def gcvit(
    *, dim: int = 64, depths: PerStage = (3, 4, 19, 5), mlp_ratio: int = 3, layer_scale: float | None = None
) -> Model:
    """A GCViT of `dim` channels in its first stage, twice as many in each next, and given depths."""
    stages: list[Stage] = []
    for index, (depth, halvings) in enumerate(zip(depths, HALVINGS, strict=True)):
        width, from_width = dim << index, dim << max(index - 1, 0)
        first = c.DropPrefix() if stages else c.Conv(dim=dim, kernel=3, stride=2, bias=True)
        down = c.Normalize(norm=NORM), mbconv(from_width), c.Conv(dim=width, kernel=3, stride=2, norm=NORM)
        level = c.Steps(steps=(mbconv(width), c.MaxPool() if halvings else c.Identity()))
        query = c.InFront(summary=c.Steps(steps=(level,) * max(halvings, 1)))
        mlp = c.Branch(mixer=c.BehindPrefix(mixer=c.Mlp(hidden=mlp_ratio * width)), norm=NORM, layer_scale=layer_scale)
        local = ContextAttention(heads=width // HEAD_WIDTH, windows=1 << halvings, norm=NORM)
        mixers = local, local.replace(shared=True)
        pair = tuple(c.Block(branches=(c.Branch(mixer=mixer, layer_scale=layer_scale), mlp)) for mixer in mixers)
        stages.append(Stage(enter=c.Steps(steps=(first, *down, query)), blocks=(pair * depth)[:depth]))
    stages.append(Stage(enter=c.Steps(steps=(c.DropPrefix(), c.Normalize(norm=NORM)))))
    return classifier(stages, c.MeanPool())


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""

    def mbconv_rules(theirs: str, ours: str) -> list[Rule]:
        steps = f"{ours}.body.steps"
        return [*renames(theirs, steps, "conv_dw=0.conv conv_pw=2.conv"), *excite_rules(f"{theirs}.se", f"{steps}.1")]

    enter = "stages.{s}.enter.steps"
    ends = "stem.conv1=stages.0.enter.steps.0.conv stages.3.norm=stages.4.enter.steps.1.norm head.fc=head"
    rules = renames("", "", ends)
    for theirs, ours in (("stem.down", "stages.0.enter.steps"), ("stages.{s}.downsample", enter)):
        rules += renames(theirs, ours, "norm1=1.norm reduction=3.conv norm2=3.norm")
        rules += mbconv_rules(f"{theirs}.conv_block", f"{ours}.2")
    rules += mbconv_rules("stages.{s}.global_block.blocks.conv{i+1}", f"{enter}.4.summary.steps.{{i}}.steps.0")
    parts = "norm1=0.mixer.norm attn.rel_pos.relative_position_bias_table=0.mixer.bias.table attn=0.mixer norm2=1.norm"
    parts += " ls1.gamma=0.layer_scale ls2.gamma=1.layer_scale mlp=1.mixer.mixer"
    return KeyRules(rules, renames("stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches", parts))


LARGER: Numbers = {"mlp_ratio": 2, "layer_scale": 1e-5}
SIZES: Sizes = {
    "gcvit_xxtiny": {"depths": (2, 2, 6, 2)},
    "gcvit_xtiny": {"depths": (3, 4, 6, 5)},
    "gcvit_tiny": {},
    "gcvit_small": LARGER | {"dim": 96},
    "gcvit_base": LARGER | {"dim": 128},
}
FAMILY = Family("gcvit", "arXiv 2206.09959", gcvit, SIZES, {"timm": timm_rules})
