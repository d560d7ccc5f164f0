"""DaViT: attention between positions of a window, then attention between channels (arXiv 2204.03645).

The `_fl` models are the image towers of Florence-2 (2311.06242).
"""

from torch import Tensor, nn

from .. import components as c
from . import Family, Grid, KeyRules, Model, Numbers, PerStage, Rename, Sizes, Stage, classifier, renames

NORM = c.LayerNorm(eps=1e-5)


class ChannelAttention(c.Mixer):
    """Self-attention in which the channels of a head are the tokens, and their values at all positions the features.

    Its weights, and maps, say which channel takes from which over the whole image; of positions there are none. Scores
    are scaled by the width of a head, or `by_positions` by their number.
    """

    heads: int
    by_positions: bool = False


@c.module_of(ChannelAttention)
class ChannelAttentionModule(nn.Module):
    def __init__(self, spec: ChannelAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, self.width = spec.heads, c.head_width(spec.kind, dim, spec.heads)
        self.by_positions = spec.by_positions
        self.attend = c.ChannelProduct(1.0)
        self.qkv = c.linear(dim, 3 * dim)
        self.proj = c.linear(dim, dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        # (B, N, 3 * heads * d) -> three of (B, heads, d, N)
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 4, 1).unbind(0)
        scale = (tokens.shape[1] if self.by_positions else self.width) ** -0.5
        mixed = self.attend(query * scale, key, value)
        return self.proj(mixed.flatten(1, 2).transpose(1, 2).contiguous())


def dual_block(dim: int, heads: int, window: int, florence: bool) -> c.Block:
    """Attention in windows and attention between channels, each with an MLP, and a convolution in front of all four."""
    windows = c.WindowAttention(attention=c.Attention(heads=heads), window=(window, window))
    mlp, channels = c.Mlp(hidden=4 * dim), ChannelAttention(heads=heads, by_positions=florence)
    mixers, position = (windows, mlp, channels, mlp), c.Branch(mixer=c.Conv(dim=dim, kernel=3, groups=dim, bias=True))
    return c.Block(branches=tuple(part for mixer in mixers for part in (position, c.Branch(mixer=mixer, norm=NORM))))


def davit(*, dims: PerStage, depths: PerStage, heads: PerStage, window: int = 7, florence: bool = False) -> Model:
    """A DaViT of given widths, numbers of dual blocks and heads.

    `florence`: patches overlap between stages, and scores between channels are scaled by the number of positions.
    """
    stages: list[Stage] = []
    for dim, depth, count in zip(dims, depths, heads, strict=True):
        merge = c.Conv(dim=dim, kernel=3, stride=2, bias=True) if florence else c.Patchify(dim=dim, patch=2)
        first = c.Conv(dim=dim, kernel=7, stride=4, bias=True, norm=NORM)
        enter = c.Steps(steps=(c.Normalize(norm=NORM), merge)) if stages else first
        stages.append(Stage(enter=enter, blocks=(dual_block(dim, count, window, florence),) * depth))
    return classifier(stages, c.MeanPool(post_norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    channels = model.stages[0].blocks[0].branches[5].mixer
    assert isinstance(channels, ChannelAttention)
    names = ("spatial_block", "channel_block") if channels.by_positions else ("0", "1")
    block, ours = "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches"
    rules = renames("", "", "stem=stages.0.enter head.norm=pool.post_norm head.fc=head")
    rules += renames("stages.{s}.downsample", "stages.{s}.enter.steps", "norm=0.norm conv=1.conv")
    if not channels.by_positions:
        # What DaViT calls keys, values and queries of channels are our queries, keys and values.
        thirds = (lambda t: t.roll(-len(t) // 3, 0)), (lambda t: t.roll(len(t) // 3, 0))
        rules.append(Rename(f"{block}.{names[1]}.attn.qkv", f"{ours}.5.mixer.qkv", *thirds))
    for first, name, attention in zip((0, 4), names, ("mixer.attention", "mixer"), strict=True):
        parts = f"cpe1.proj={first}.mixer.conv norm1={first + 1}.norm attn={first + 1}.{attention} "
        parts += f"cpe2.proj={first + 2}.mixer.conv norm2={first + 3}.norm mlp={first + 3}.mixer"
        rules += renames(f"{block}.{name}", ours, parts)
    return KeyRules(rules)


TINY: Numbers = {"dims": (96, 192, 384, 768), "heads": (3, 6, 12, 24)}
BASE: Numbers = {"dims": (128, 256, 512, 1024), "heads": (4, 8, 16, 32)}
HUGE: Numbers = {"dims": (256, 512, 1024, 2048), "heads": (8, 16, 32, 64)}
DEEP: Numbers = {"depths": (1, 1, 9, 1)}
FLORENCE: Numbers = DEEP | {"window": 12, "florence": True, "img_size": 768, "num_classes": 0}
SIZES: Sizes = {
    "davit_tiny": TINY | {"depths": (1, 1, 3, 1)},
    "davit_small": TINY | DEEP,
    "davit_base": BASE | DEEP,
    "davit_large": DEEP | {"dims": (192, 384, 768, 1536), "heads": (6, 12, 24, 48)},
    "davit_huge": HUGE | DEEP,
    "davit_giant": {"dims": (384, 768, 1536, 3072), "heads": (12, 24, 48, 96), "depths": (1, 1, 12, 3)},
    "davit_base_fl": BASE | FLORENCE,
    "davit_huge_fl": HUGE | FLORENCE,
}
FAMILY = Family("davit", "arXiv 2204.03645", davit, SIZES, {"timm": timm_rules})
