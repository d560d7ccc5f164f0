"""MobileNetV4: inverted bottlenecks with filters in one, two or no places, and attention (arXiv 2404.10518).

`mobilenetv4_conv` models do not attend, and have no layer scales: the CNNs to compare the others with.
"""

from typing import Any

from torch import Tensor, nn

from ..components import AvgPool, BatchNorm, Block, Branch, Conv, Identity, LayerScale, Linear, LinearHead, MeanPool
from ..components.activations import linear
from ..components.attention import ScaledDotProduct
from ..components.transitions import Steps
from ..encoder import Model, Stage
from ..keys import KeyRules, conv_to_linear, renames
from ..layouts import normed_rules
from ..spec import Grid, Mixer, Transition
from . import Family, Sizes
from .efficientnet_lite import scaled_width

NORM, ABSENT = BatchNorm(), Identity()
LAST_WIDTHS = (960, 1280)


class MultiQueryAttention(Mixer):
    """Attention whose heads share keys and values (arXiv 1911.02150), of `head_dim` channels.

    `reduce` takes the tokens to those that become keys, and another one like it to those that become values.
    """

    heads: int
    head_dim: int
    reduce: Transition = ABSENT

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        return MultiQueryAttentionModule(self, in_dim, grid)


class MultiQueryAttentionModule(nn.Module):
    def __init__(self, spec: MultiQueryAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, inner = spec.heads, spec.heads * spec.head_dim
        reduced = Steps(steps=(spec.reduce, Linear(dim=spec.head_dim, bias=False)))
        self.query = linear(dim, inner, bias=False)
        self.key, self.value = reduced.build(dim, grid), reduced.build(dim, grid)
        self.attend = ScaledDotProduct(spec.head_dim**-0.5)
        self.proj = linear(inner, dim, bias=False)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query = self.query(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        # Fused kernels take as many heads of keys as of queries; expanded ones are no copies.
        key, value = (part(tokens, grid).unsqueeze(1).expand(-1, self.heads, -1, -1) for part in (self.key, self.value))
        return self.proj(self.attend(query, key, value).transpose(1, 2).flatten(2))


def mobilenetv4(
    *,
    stem: int,
    dims: tuple[int, ...],
    blocks: str,
    early: tuple[int, ...] = (),
    heads: tuple[tuple[int, int], ...] = (),
    width: float = 1.0,
    act: str = "relu",
    pooled: bool = False,
    img_size: int = 224,
) -> Model:
    """A MobileNetV4 of given widths, all times `width` but for the stem's, which never shrinks.

    `blocks` of the last stages: "A" attends, digits are the kernels in front and in the middle of a bottleneck, 0 for
    none, and its expansion. Earlier stages are two convolutions, through widths `early` or 4 times the stem's. `heads`:
    how many the last stages have, and of what width; without them there are no layer scales. `pooled`: strides are
    means of 2 x 2 positions behind a convolution.
    """
    conv, scale = Conv(dim=1, norm=NORM, act=act), 1e-5 if heads else None
    widths = (scaled_width(stem, max(width, 1.0)), *(scaled_width(dim, width) for dim in dims))
    codes = blocks.split(" / ")
    codes = [""] * (len(dims) - len(codes)) + codes

    def strided(conv: Conv) -> tuple[Transition, Transition]:
        return (conv, AvgPool()) if pooled else (conv.replace(stride=2), ABSENT)

    def bottleneck(in_dim: int, dim: int, code: str, first: bool = False) -> Steps:
        start, middle, ratio = map(int, code)
        front, wide = Conv(dim=in_dim, kernel=start, groups=in_dim, norm=NORM), conv.replace(dim=ratio * in_dim)
        inner = wide.replace(kernel=middle, groups=wide.dim)
        filters = strided(inner) if first else (inner if middle else ABSENT, ABSENT)
        return Steps(steps=(front if start else ABSENT, wide, *filters, Conv(dim=dim, norm=NORM)))

    def block(dim: int, code: str, before_last: int) -> Block:
        if code != "A":
            return Block(branches=(Branch(mixer=bottleneck(dim, dim, code), layer_scale=scale),))
        reduce = Conv(dim=dim, kernel=3, stride=2, groups=dim, norm=NORM) if before_last else ABSENT
        count, head_dim = heads[-1 - before_last]
        attention = MultiQueryAttention(heads=count, head_dim=head_dim, reduce=reduce)
        return Block(branches=(Branch(mixer=attention, norm=NORM, layer_scale=scale),))

    stages = [Stage(enter=conv.replace(dim=widths[0], kernel=3, stride=2))]
    for index, (in_dim, dim, text) in enumerate(zip(widths[:-1], widths[1:], codes, strict=True)):
        if text:
            code, *others = text.split()
            scaled = (LayerScale(initial=scale),) if scale else ()
            enter = Steps(steps=(*bottleneck(in_dim, dim, code, first=True).steps, *scaled))
            stages.append(Stage(enter=enter, blocks=tuple(block(dim, code, len(dims) - 1 - index) for code in others)))
        else:
            first = conv.replace(dim=scaled_width(early[index], width) if early else 4 * in_dim, kernel=3)
            last = conv.replace(dim=dim, act=act if early else None)
            stages.append(Stage(enter=Steps(steps=(*strided(first), last))))
    stages.append(Stage(enter=conv.replace(dim=scaled_width(LAST_WIDTHS[0], width))))
    pool = MeanPool(after=Linear(dim=LAST_WIDTHS[1], bias=False, norm=NORM, act=act))
    return Model(stages=tuple(stages), pool=pool, head=LinearHead(), img_size=(img_size, img_size))


SMALL: dict[str, Any] = {
    "stem": 32,
    "dims": (32, 64, 96, 128),
    "early": (32, 96),
    "blocks": "553 032 032 032 032 304 / 336 554 054 053 034 034",
}
MEDIUM: dict[str, Any] = {
    "stem": 32,
    "dims": (48, 80, 160, 256),
    "blocks": "354 332 / 356 334 334 354 334 304 002 304 / 556 554 354 354 004 304 352 554 004 004 502",
}
LARGE: dict[str, Any] = {
    "stem": 24,
    "dims": (48, 96, 192, 512),
    "blocks": "354 334 / 354 334 334 334 354 534 534 534 534 534 304"
    " / 554 554 554 554 504 534 504 504 534 554 504 504 504",
}
HYBRID_MEDIUM = MEDIUM | {
    "heads": ((4, 64), (4, 64)),
    "blocks": "354 332 / 356 002 334 354 A 334 A 304 A 334 A 304"
    " / 556 554 354 354 002 352 002 004 A 304 A 554 A 504 A 504",
}
HYBRID_LARGE = LARGE | {
    "heads": ((8, 48), (8, 64)),
    "act": "gelu",
    "blocks": "354 334 / 354 334 334 334 354 534 534 A 534 A 534 A 534 A 304"
    " / 554 554 554 554 504 534 504 504 534 554 A 504 A 504 A 504 A 504",
}
SIZES: Sizes = {
    "mobilenetv4_hybrid_medium_075": HYBRID_MEDIUM | {"width": 0.75},
    "mobilenetv4_hybrid_medium": HYBRID_MEDIUM | {"img_size": 256},
    "mobilenetv4_hybrid_large_075": HYBRID_LARGE | {"width": 0.75, "img_size": 256},
    "mobilenetv4_hybrid_large": HYBRID_LARGE | {"img_size": 384},
    "mobilenetv4_conv_small_035": SMALL | {"width": 0.35},
    "mobilenetv4_conv_small_050": SMALL | {"width": 0.5},
    "mobilenetv4_conv_small": SMALL,
    "mobilenetv4_conv_medium": MEDIUM | {"img_size": 256},
    "mobilenetv4_conv_large": LARGE | {"img_size": 384},
    "mobilenetv4_conv_aa_medium": MEDIUM | {"pooled": True, "img_size": 256},
    "mobilenetv4_conv_aa_large": LARGE | {"pooled": True, "img_size": 448},
}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, in which the entrance of a stage is its first block."""
    end, mixer = len(model.stages) - 2, "stages.{s+1}.blocks.{b}.branches.0"
    rules = renames("", "", "conv_stem=stages.0.enter.conv bn1=stages.0.enter.norm classifier=head")
    rules += renames("", "pool.after", "norm_head=norm")
    rules += renames("", "pool.after", "conv_head=linear", conv_to_linear)
    rules += renames(f"blocks.{end}.0", f"stages.{end + 1}.enter", "conv bn1=norm")
    early = sum(not stage.blocks for stage in model.stages[1:-1])
    fused = "0.conv_exp=0.conv 0.bn1=0.norm 0.conv_pwl=2.conv 0.bn2=2.norm"
    apart = "0.conv 0.bn1=0.norm 1.conv=2.conv 1.bn1=2.norm"
    for s in range(early):
        rules += renames(f"blocks.{s}", f"stages.{s + 1}.enter.steps", fused if early == 1 else apart)
    places = {"blocks.{s}.0": "stages.{s+1}.enter", "blocks.{s}.{b+1}": f"{mixer}.mixer"}
    parts = {"dw_start": 0, "pw_exp": 1, "dw_mid": 2, "pw_proj": 4}
    rules += normed_rules(
        {f"{their}.{name}": f"{our}.steps.{i}" for their, our in places.items() for name, i in parts.items()},
        conv="conv",
    )
    rules += renames("blocks.{s}.0", "stages.{s+1}.enter.steps", "layer_scale=5")
    rules += renames("blocks.{s}.{b+1}", mixer, "layer_scale.gamma=layer_scale norm")
    reduce = "key.down_conv=key.steps.0.conv key.norm=key.steps.0.norm"
    reduce += " " + reduce.replace("key", "value")
    rules += renames("blocks.{s}.{b+1}.attn", f"{mixer}.mixer", reduce)
    projections = "query.proj=query key.proj=key.steps.1.linear value.proj=value.steps.1.linear output.proj=proj"
    rules += renames("blocks.{s}.{b+1}.attn", f"{mixer}.mixer", projections, conv_to_linear)
    return KeyRules(rules)


FAMILY = Family(
    name="mobilenetv4", paper="arXiv 2404.10518", build=mobilenetv4, sizes=SIZES, layouts={"timm": timm_rules}
)
