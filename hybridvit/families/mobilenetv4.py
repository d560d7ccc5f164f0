"""MobileNetV4: inverted bottlenecks with filters at up to two places, and attention or none (arXiv 2404.10518)."""

from torch import Tensor, nn

from .. import components as c
from ..layouts import normed_renames
from . import Family, Grid, KeyRules, Model, Sizes, Stage, classifier, conv_to_linear, renames
from .efficientnet_lite import scaled_width

NORM, ABSENT, SCALE = c.BatchNorm(), c.Identity(), 1e-5


class MultiQueryAttention(c.Mixer):
    """Attention whose heads share keys and values (arXiv 1911.02150), which are those of every `stride`-th position.

    Other positions reach these through filters, of which keys and values have their own.
    """

    heads: int
    head_dim: int
    stride: int = 1


@c.module_of(MultiQueryAttention)
class MultiQueryAttentionModule(nn.Module):
    def __init__(self, spec: MultiQueryAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, inner = spec.heads, spec.heads * spec.head_dim
        reduce = c.Conv(dim=dim, kernel=3, stride=spec.stride, groups=dim, norm=NORM) if spec.stride > 1 else ABSENT
        shared = c.Steps(steps=(reduce, c.Linear(dim=spec.head_dim, bias=False)))
        self.query = c.linear(dim, inner, bias=False)
        self.key, self.value = shared.build(dim, grid), shared.build(dim, grid)
        self.attend = c.ScaledDotProduct(spec.head_dim**-0.5)
        self.proj = c.linear(inner, dim, bias=False)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query = c.split_heads(self.query(tokens), self.heads)
        # Fused kernels take as many heads of keys as of queries; expanded ones are no copies.
        key, value = (part(tokens, grid).unsqueeze(1).expand(-1, self.heads, -1, -1) for part in (self.key, self.value))
        return self.proj(c.join_heads(self.attend(query, key, value)))


def mobilenetv4(*, plan: str, width: float = 1.0, act: str = "relu", pooled: bool = False) -> Model:
    """A MobileNetV4 by its `plan`: for each stage its width, all but the first to be times `width`, and its blocks.

    "8x48x2" attends: its heads, their width, the stride of keys. Three digits are a bottleneck: its kernels in front
    and in the middle, 0 for none, and its expansion. With one number below 100, or none, a stage is two convolutions,
    through so many channels or 4 times those before it. If blocks attend, the updates of all have a scale.
    `pooled`: to stride is to convolve all positions and then average 2 x 2 of them.
    """
    conv, scaled = c.Conv(dim=1, norm=NORM, act=act), "x" in plan

    def strided(conv: c.Conv) -> tuple[c.Transition, c.Transition]:
        return (conv, c.AvgPool()) if pooled else (conv.replace(stride=2), ABSENT)

    def bottleneck(in_dim: int, dim: int, code: str, first: bool = False) -> c.Steps:
        start, middle, ratio = map(int, code)
        front, wide = c.Conv(dim=in_dim, kernel=start or 1, groups=in_dim, norm=NORM), conv.replace(dim=ratio * in_dim)
        inner = wide.replace(kernel=middle or 1, groups=wide.dim)
        filters = strided(inner) if first else (inner if middle else ABSENT, ABSENT)
        # Without a shortcut, all would vanish at SCALE.
        scale = (c.LayerScale(initial=1.0),) if scaled and first else ()
        return c.Steps(steps=(front if start else ABSENT, wide, *filters, c.Conv(dim=dim, norm=NORM), *scale))

    def branch(dim: int, code: str) -> c.Branch:
        scale = SCALE if scaled else None
        if "x" not in code:
            return c.Branch(mixer=bottleneck(dim, dim, code), layer_scale=scale)
        heads, head_dim, stride = map(int, code.split("x"))
        attention = MultiQueryAttention(heads=heads, head_dim=head_dim, stride=stride)
        return c.Branch(mixer=attention, norm=NORM, layer_scale=scale)

    first, *others = map(str.split, plan.split("/"))
    stages = [Stage(enter=conv.replace(dim=int(first[0]), kernel=3, stride=2))]
    for base_dim, *codes in others:
        in_dim, dim = stages[-1].enter.out_dim(0), scaled_width(int(base_dim), width)
        if codes and len(codes[0]) == 3:
            enter = bottleneck(in_dim, dim, codes[0], first=True)
            blocks = tuple(c.Block(branches=(branch(dim, code),)) for code in codes[1:])
            stages.append(Stage(enter=enter, blocks=blocks))
        else:
            wide = conv.replace(dim=scaled_width(int(codes[0]), width) if codes else 4 * in_dim, kernel=3)
            last = conv.replace(dim=dim, act=act if codes else None)
            stages.append(Stage(enter=c.Steps(steps=(*strided(wide), last))))
    stages.append(Stage(enter=conv.replace(dim=scaled_width(960, width))))
    return classifier(stages, c.MeanPool(after=c.Linear(dim=1280, bias=False, norm=NORM, act=act)))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, in which the entrance of a stage is its first block."""
    last, ours = len(model.stages) - 1, "stages.{s+1}.blocks.{b}.branches.0"
    rules = renames("", "", "conv_stem=stages.0.enter.conv bn1=stages.0.enter.norm classifier=head")
    rules += [*renames("", "pool.after", "norm_head=norm"), conv_to_linear("conv_head", "pool.after.linear")]
    rules += renames(f"blocks.{last - 1}.0", f"stages.{last}.enter", "conv bn1=norm")
    early = sum(not stage.blocks for stage in model.stages[1:-1])
    fused = "0.conv_exp=0.conv 0.bn1=0.norm 0.conv_pwl=2.conv 0.bn2=2.norm"
    apart = "0.conv 0.bn1=0.norm 1.conv=2.conv 1.bn1=2.norm"
    for s in range(early):
        rules += renames(f"blocks.{s}", f"stages.{s + 1}.enter.steps", apart if early > 1 else fused)
    for block, place in (("blocks.{s}.0", "stages.{s+1}.enter"), ("blocks.{s}.{b+1}", f"{ours}.mixer")):
        rules += normed_renames(block, f"{place}.steps", "dw_start=0 pw_exp=1 dw_mid=2 pw_proj=4", "conv")
    rules += renames("", "", "blocks.{s}.0.layer_scale=stages.{s+1}.enter.steps.5")
    rules += renames("blocks.{s}.{b+1}", ours, "layer_scale.gamma=layer_scale norm")
    reduce = "key.down_conv=key.steps.0.conv key.norm=key.steps.0.norm"
    attention = "blocks.{s}.{b+1}.attn", f"{ours}.mixer"
    rules += renames(*attention, f"{reduce} {reduce.replace('key', 'value')}")
    layers = "query.proj=query key.proj=key.steps.1.linear value.proj=value.steps.1.linear output.proj=proj"
    return KeyRules(rules, renames(*attention, layers, conv_to_linear))


SMALL = "32 / 32 32 / 64 96 / 96 553 032 032 032 032 304 / 128 336 554 054 053 034 034"
MEDIUM = """32 / 48 / 80 354 332 / 160 356 334 334 354 334 304 002 304 /
256 556 554 354 354 004 304 352 554 004 004 502"""
LARGE = """24 / 48 / 96 354 334 / 192 354 334 334 334 354 534 534 534 534 534 304 /
512 554 554 554 554 504 534 504 504 534 554 504 504 504"""
HYBRID_MEDIUM = """32 / 48 / 80 354 332 / 160 356 002 334 354 4x64x2 334 4x64x2 304 4x64x2 334 4x64x2 304 /
256 556 554 354 354 002 352 002 004 4x64x1 304 4x64x1 554 4x64x1 504 4x64x1 504"""
HYBRID_LARGE = """24 / 48 / 96 354 334 / 192 354 334 334 334 354 534 534 8x48x2 534 8x48x2 534 8x48x2 534 8x48x2 304 /
512 554 554 554 554 504 534 504 504 534 554 8x64x1 504 8x64x1 504 8x64x1 504 8x64x1 504"""
SIZES: Sizes = {
    f"mobilenetv4_{name}": {"plan": plan, "width": width, "img_size": img_size}
    | {"act": "gelu" if plan == HYBRID_LARGE else "relu", "pooled": "aa" in name}
    for name, plan, width, img_size in (
        ("hybrid_medium_075", HYBRID_MEDIUM, 0.75, 224),
        ("hybrid_medium", HYBRID_MEDIUM, 1.0, 256),
        ("hybrid_large_075", HYBRID_LARGE, 0.75, 256),
        ("hybrid_large", HYBRID_LARGE, 1.0, 384),
        ("conv_small_035", SMALL, 0.35, 224),
        ("conv_small_050", SMALL, 0.5, 224),
        ("conv_small", SMALL, 1.0, 224),
        ("conv_medium", MEDIUM, 1.0, 256),
        ("conv_large", LARGE, 1.0, 384),
        ("conv_aa_medium", MEDIUM, 1.0, 256),
        ("conv_aa_large", LARGE, 1.0, 448),
    )
}
FAMILY = Family("mobilenetv4", "arXiv 2404.10518", mobilenetv4, SIZES, {"timm": timm_rules})
