"""TinyViT: MBConv, then attention in windows with a depthwise convolution behind it (arXiv 2207.10666)."""

from .. import components as c
from ..layouts import normed_renames
from . import Family, KeyRules, Model, Numbers, PerStage, Sizes, Stage, classifier, renames

NORM, BATCH_NORM, AT_0 = c.LayerNorm(eps=1e-5), c.BatchNorm(), c.BatchNorm(zero_init=True)


def tiny_vit(*, dims: PerStage, heads: PerStage, depths: PerStage = (2, 2, 6, 2), window: int = 7) -> Model:
    """A TinyViT of given widths, heads and depths; windows have `window` positions a side, in stage 2 twice that."""

    def conv_block(dim: int) -> c.Block:
        wide = c.Conv(dim=4 * dim, norm=BATCH_NORM, act="gelu")
        body = c.Steps(steps=(wide, wide.replace(kernel=3, groups=4 * dim), c.Conv(dim=dim, norm=AT_0)))
        return c.Block(branches=(c.Branch(mixer=body), c.Branch(mixer=c.Activate(act="gelu"), residual=False)))

    def window_block(index: int) -> c.Block:
        dim, side = dims[index], 2 * window if index == 2 else window
        width = dim // heads[index]
        attention = c.NarrowAttention(heads=heads[index], key_dim=width, value_dim=width, bias=c.DistanceBias())
        # The norm is inside, for it comes after the padding.
        inside = c.Steps(steps=(c.Normalize(norm=NORM), attention))
        attend = c.Branch(mixer=c.WindowAttention(attention=inside, window=(side, side)))
        local = c.Branch(mixer=c.Conv(dim=dim, kernel=3, groups=dim, norm=BATCH_NORM), residual=False)
        return c.Block(branches=(attend, local, c.Branch(mixer=c.Mlp(hidden=4 * dim), norm=NORM)))

    stem = c.doubling_stem(dims[0], 4, BATCH_NORM, "gelu")
    stages = [Stage(enter=stem, blocks=(conv_block(dims[0]),) * depths[0])]
    for index in range(1, len(dims)):
        merge = c.inverted_residual(dims[index], dims[index], "gelu", stride=2)
        stages.append(Stage(enter=merge, blocks=(window_block(index),) * depths[index]))
    return classifier(stages, c.MeanPool(post_norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block, ours = "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches"
    rules = normed_renames("patch_embed", "stages.0.enter.steps", "conv1=0 conv2=1", "conv")
    rules += normed_renames("stages.{s}.downsample", "stages.{s}.enter.steps", "conv1=0 conv2=1 conv3=2", "conv")
    rules += normed_renames(block, f"{ours}.0.mixer.steps", "conv1=0 conv2=1 conv3=2", "conv")
    rules += normed_renames(block, ours, "local_conv=1.mixer", "conv")
    attention = "norm=0.norm qkv=1.qkv.linear attention_biases=1.bias.table proj=1.proj.linear"
    rules += renames(f"{block}.attn", f"{ours}.0.mixer.attention.steps", attention)
    rules += renames(block, ours, "mlp.norm=2.norm mlp=2.mixer")
    return KeyRules(rules, renames("", "", "head.norm=pool.post_norm head.fc=head"))


LARGE: Numbers = {"dims": (96, 192, 384, 576), "heads": (3, 6, 12, 18)}
SIZES: Sizes = {
    "tiny_vit_5m_224": {"dims": (64, 128, 160, 320), "heads": (2, 4, 5, 10)},
    "tiny_vit_11m_224": {"dims": (64, 128, 256, 448), "heads": (2, 4, 8, 14)},
    "tiny_vit_21m_224": LARGE,
    "tiny_vit_21m_384": LARGE | {"window": 12, "img_size": 384},
    "tiny_vit_21m_512": LARGE | {"window": 16, "img_size": 512},
}
FAMILY = Family("tiny_vit", "arXiv 2207.10666", tiny_vit, SIZES, {"timm": timm_rules})
