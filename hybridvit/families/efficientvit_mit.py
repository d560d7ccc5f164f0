"""EfficientViT of MIT: MBConv, and linear attention at two scales (arXiv 2205.14756)."""

from typing import Any

from .. import components as c
from . import Family, KeyRules, Model, PerStage, Rule, Sizes, Stage, classifier, renames


def conv_body(in_dim: int, dim: int, ratio: int, like: c.Conv, fused: bool = False, fewer: bool = False) -> c.Steps:
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
        return c.Steps(steps=(inner, last.replace(kernel=3)) if fused else (apart, last))
    return c.Steps(steps=(inner, last) if fused else (wide, apart, last))


def efficientvit(
    *, dims: PerStage, depths: PerStage, head_dim: int, head_dims: tuple[int, int], large: bool = False
) -> Model:
    """An EfficientViT of given widths and depths, the stem's first, and widths of the two layers before the classifier.

    `large` models fuse convolutions in their first stages, and attend in their last alone.
    """
    eps, act, ratio = (1e-7, "gelu_tanh", 6) if large else (1e-5, "hard_swish", 4)
    norm = c.BatchNorm(eps=eps)
    like = c.Conv(dim=1, norm=norm, act=act)

    def stage(index: int, in_dim: int, dim: int, depth: int) -> Stage:
        attends, fused, fewer = index >= (4 if large else 3), large and index < 3, large and index >= 3
        first_ratio = (24 if attends else 16) if large else ratio
        enter = conv_body(in_dim, dim, first_ratio, like.replace(stride=2), fused, attends or fewer)
        if attends:
            attention = c.ScaledLinearAttention(head_dim=head_dim, norm=norm)
            mixers = (attention, conv_body(dim, dim, ratio, like, fewer=True))
        else:
            mixers = (conv_body(dim, dim, 4, like, fused, fewer),)
        return Stage(enter=enter, blocks=(c.residual_block(*mixers),) * (depth if large or attends else depth - 1))

    stem = c.residual_block(conv_body(dims[0], dims[0], 1, like, large))
    first = Stage(enter=like.replace(dim=dims[0], kernel=3, stride=2), blocks=(stem,) * depths[0])
    stages = (stage(index, dims[index - 1], dims[index], depths[index]) for index in range(1, len(dims)))
    after = c.Linear(dim=head_dims[1], bias=False, norm=c.LayerNorm(eps=eps), act=act)
    pool = c.MeanPool(before=like.replace(dim=head_dims[0]), after=after)
    return classifier((first, *stages), pool)


def body_rules(theirs: str, ours: str, body: Any) -> list[Rule]:
    """timm's names of the convolutions of a body, which depend on what they are."""
    names = ("inverted_conv", "depth_conv", "point_conv")
    if len(body.steps) == 2:
        first, last = body.steps
        names = ("depth_conv" if first.groups > 1 else "spatial_conv", "point_conv")
        names = ("conv1", "conv2") if last.kernel == 3 else names
    return renames(theirs, f"{ours}.steps", " ".join(f"{name}={step}" for step, name in enumerate(names)))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    last = "in_conv=pool.before classifier.0=pool.after.linear classifier.1=pool.after.norm classifier.4=head"
    rules = renames("stem", "stages.0", "in_conv=enter") + renames("head", "", last)
    first = model.stages[0].blocks[0].branches[0].mixer
    rules += body_rules("stem.res{b}.main", "stages.0.blocks.{b}.branches.0.mixer", first)
    for s, stage in enumerate(model.stages[1:]):
        theirs, block = f"stages.{s}.blocks.{{b+1}}", f"stages.{s + 1}.blocks.{{b}}.branches"
        rules += body_rules(f"stages.{s}.blocks.0.main", f"stages.{s + 1}.enter", stage.enter)
        *attention, conv = stage.blocks[0].branches if stage.blocks else (c.Branch(mixer=stage.enter),)
        if attention:
            parts = "aggreg.0.0=blur.steps.0.conv aggreg.0.1=blur.steps.1.conv qkv proj"
            rules += renames(f"{theirs}.context_module.main", f"{block}.0.mixer", parts)
        name = "local_module.main" if attention else "main"
        rules += body_rules(f"{theirs}.{name}", f"{block}.{len(attention)}.mixer", conv.mixer)
    return KeyRules(rules)


SIZES: Sizes = {
    f"efficientvit_{name}": {"dims": tuple(width << s for s in range(5)), "depths": depths}
    | {"head_dim": head_dim, "head_dims": head_dims, "large": name.startswith("l")}
    for name, width, depths, head_dim, head_dims in (
        ("b0", 8, (1, 2, 2, 2, 2), 16, (1024, 1280)),
        ("b1", 16, (1, 2, 3, 3, 4), 16, (1536, 1600)),
        ("b2", 24, (1, 3, 4, 4, 6), 32, (2304, 2560)),
        ("b3", 32, (1, 4, 6, 6, 9), 32, (2304, 2560)),
        ("l1", 32, (1, 1, 1, 6, 6), 32, (3072, 3200)),
        ("l2", 32, (1, 2, 2, 8, 8), 32, (3072, 3200)),
        ("l3", 64, (1, 2, 2, 8, 8), 32, (6144, 6400)),
    )
}
FAMILY = Family("efficientvit_mit", "arXiv 2205.14756", efficientvit, SIZES, {"timm": timm_rules})
