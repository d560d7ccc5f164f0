"""EfficientViT of MIT: MBConv, and linear attention at two scales (arXiv 2205.14756)."""

from typing import Any

from ..components import BatchNorm, Block, Branch, Conv, LayerNorm, Linear, LinearHead, MeanPool, Steps
from ..components.linear_attention import ScaledLinearAttention
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, Rule
from . import Family, Sizes

PerStage = tuple[int, ...]


def conv_body(in_dim: int, dim: int, ratio: int, like: Conv, fused: bool = False, fewer: bool = False) -> Steps:
    """Convolutions as `like`, through `ratio` times the width; `fewer` norms: only the last has one.

    Each channel by itself between two of 1 x 1; if `fused`, the first two of these are one; at a ratio of 1 there is
    none in front, and if `fused` both are of 3 x 3.
    """
    inner = like.replace(dim=ratio * in_dim, kernel=3)
    if fewer:
        inner = inner.replace(norm=None, bias=True)
    apart = inner.replace(groups=ratio * in_dim)
    wide = inner.replace(kernel=1, stride=1)
    last = like.replace(dim=dim, stride=1, act=None)
    if ratio == 1:
        return Steps(steps=(inner, last.replace(kernel=3)) if fused else (apart, last))
    return Steps(steps=(inner, last) if fused else (wide, apart, last))


def efficientvit(
    *, dims: PerStage, depths: PerStage, head_dim: int, head_dims: tuple[int, int], large: bool = False
) -> Model:
    """An EfficientViT of given widths and depths, the stem's first, and widths of the two layers before the classifier.

    `large` models fuse convolutions in their first stages, and attend in their last alone.
    """
    eps, act, ratio = (1e-7, "gelu_tanh", 6) if large else (1e-5, "hard_swish", 4)
    norm = BatchNorm(eps=eps)
    like = Conv(dim=1, norm=norm, act=act)

    def stage(index: int, in_dim: int, dim: int, depth: int) -> Stage:
        attends, fused, fewer = index >= (4 if large else 3), large and index < 3, large and index >= 3
        first_ratio = (24 if attends else 16) if large else ratio
        down = like.replace(stride=2)
        enter = conv_body(in_dim, dim, first_ratio, down, fused, attends or fewer)
        if attends:
            attention = ScaledLinearAttention(head_dim=head_dim, norm=norm)
            mixers = (attention, conv_body(dim, dim, ratio, like, fewer=True))
        else:
            mixers = (conv_body(dim, dim, 4, like, fused, fewer),)
        block = Block(branches=tuple(Branch(mixer=mixer) for mixer in mixers))
        return Stage(enter=enter, blocks=(block,) * (depth if large or attends else depth - 1))

    stem = Block(branches=(Branch(mixer=conv_body(dims[0], dims[0], 1, like, large)),))
    first = Stage(enter=like.replace(dim=dims[0], kernel=3, stride=2), blocks=(stem,) * depths[0])
    stages = (stage(index, dims[index - 1], dims[index], depths[index]) for index in range(1, len(dims)))
    after = Linear(dim=head_dims[1], bias=False, norm=LayerNorm(eps=eps), act=act)
    pool = MeanPool(before=like.replace(dim=head_dims[0]), after=after)
    return Model(stages=(first, *stages), pool=pool, head=LinearHead())


LARGE: dict[str, Any] = {"head_dim": 32, "large": True}
SIZES: Sizes = {
    "efficientvit_b0": {
        "dims": (8, 16, 32, 64, 128),
        "depths": (1, 2, 2, 2, 2),
        "head_dim": 16,
        "head_dims": (1024, 1280),
    },
    "efficientvit_b1": {
        "dims": (16, 32, 64, 128, 256),
        "depths": (1, 2, 3, 3, 4),
        "head_dim": 16,
        "head_dims": (1536, 1600),
    },
    "efficientvit_b2": {
        "dims": (24, 48, 96, 192, 384),
        "depths": (1, 3, 4, 4, 6),
        "head_dim": 32,
        "head_dims": (2304, 2560),
    },
    "efficientvit_b3": {
        "dims": (32, 64, 128, 256, 512),
        "depths": (1, 4, 6, 6, 9),
        "head_dim": 32,
        "head_dims": (2304, 2560),
    },
    "efficientvit_l1": LARGE | {"dims": (32, 64, 128, 256, 512), "depths": (1, 1, 1, 6, 6), "head_dims": (3072, 3200)},
    "efficientvit_l2": LARGE | {"dims": (32, 64, 128, 256, 512), "depths": (1, 2, 2, 8, 8), "head_dims": (3072, 3200)},
    "efficientvit_l3": LARGE
    | {"dims": (64, 128, 256, 512, 1024), "depths": (1, 2, 2, 8, 8), "head_dims": (6144, 6400)},
}


def body_rules(theirs: str, ours: str, body: Any) -> list[Rule]:
    """timm's names of the convolutions of a body, which depend on what they are."""
    names = ("inverted_conv", "depth_conv", "point_conv")
    if len(body.steps) == 2:
        first, last = body.steps
        names = ("depth_conv" if first.groups > 1 else "spatial_conv", "point_conv")
        names = ("conv1", "conv2") if last.kernel == 3 else names
    return [Rename(f"{theirs}.{name}", f"{ours}.steps.{step}") for step, name in enumerate(names)]


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block, mixer = "stages.0.blocks.{b}.branches", model.stages[0].blocks[0].branches[0].mixer
    rules = [Rename("stem.in_conv", "stages.0.enter"), *body_rules("stem.res{b}.main", f"{block}.0.mixer", mixer)]
    for s, stage in enumerate(model.stages[1:]):
        theirs, block = f"stages.{s}.blocks", f"stages.{s + 1}.blocks.{{b}}.branches"
        rules += body_rules(f"{theirs}.0.main", f"stages.{s + 1}.enter", stage.enter)
        *attention, conv = stage.blocks[0].branches if stage.blocks else (Branch(mixer=stage.enter),)
        if attention:
            context = f"{theirs}.{{b+1}}.context_module.main"
            rules += [Rename(f"{context}.aggreg.0.{i}", f"{block}.0.mixer.blur.steps.{i}.conv") for i in (0, 1)]
            rules += [Rename(f"{context}.{name}", f"{block}.0.mixer.{name}") for name in ("qkv", "proj")]
            rules += body_rules(f"{theirs}.{{b+1}}.local_module.main", f"{block}.1.mixer", conv.mixer)
        else:
            rules += body_rules(f"{theirs}.{{b+1}}.main", f"{block}.0.mixer", conv.mixer)
    rules += [
        Rename("head.in_conv", "pool.before"),
        Rename("head.classifier.0", "pool.after.linear"),
        Rename("head.classifier.1", "pool.after.norm"),
        Rename("head.classifier.4", "head"),
    ]
    return KeyRules(rules)


LAYOUTS = {"timm": timm_rules}
FAMILY = Family(name="efficientvit_mit", paper="arXiv 2205.14756", build=efficientvit, sizes=SIZES, layouts=LAYOUTS)
