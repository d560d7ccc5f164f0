"""TinyViT: MBConv, then attention in windows with a depthwise convolution behind it (arXiv 2207.10666)."""

from typing import Any

from ..components import Block, Branch, Conv, DistanceBias, LinearHead, MeanPool, Mlp, WindowAttention, doubling_stem
from ..components.narrow import NarrowAttention
from ..components.norms import BatchNorm, LayerNorm
from ..components.transitions import Activate, Normalize, Steps
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, Rule
from ..layouts import normed_rules
from ..spec import Transition
from . import Family, Sizes

PerStage = tuple[int, ...]

NORM, BATCH_NORM, AT_0 = LayerNorm(eps=1e-5), BatchNorm(), BatchNorm(zero_init=True)


def tiny_vit(*, dims: PerStage, heads: PerStage, depths: PerStage = (2, 2, 6, 2), img_size: int = 224) -> Model:
    """A TinyViT of given widths, heads and depths; windows have img_size / 32 positions a side, stage 2 twice that."""
    side = img_size // 32

    def conv_block(dim: int) -> Block:
        wide = Conv(dim=4 * dim, norm=BATCH_NORM, act="gelu")
        body = Steps(steps=(wide, wide.replace(kernel=3, groups=4 * dim), Conv(dim=dim, norm=AT_0)))
        return Block(branches=(Branch(mixer=body), Branch(mixer=Activate(act="gelu"), residual=False)))

    def window_block(index: int) -> Block:
        dim, window = dims[index], 2 * side if index == 2 else side
        width = dim // heads[index]
        attention = NarrowAttention(heads=heads[index], key_dim=width, value_dim=width, bias=DistanceBias())
        # The norm is inside, for it comes after the padding.
        inside = Steps(steps=(Normalize(norm=NORM), attention))
        return Block(
            branches=(
                Branch(mixer=WindowAttention(attention=inside, window=(window, window))),
                Branch(mixer=Conv(dim=dim, kernel=3, groups=dim, norm=BATCH_NORM), residual=False),
                Branch(mixer=Mlp(hidden=4 * dim), norm=NORM),
            )
        )

    def merge(dim: int) -> Transition:
        conv = Conv(dim=dim, norm=BATCH_NORM, act="gelu")
        return Steps(steps=(conv, conv.replace(kernel=3, stride=2, groups=dim), conv.replace(act=None)))

    stem = doubling_stem(dims[0], 4, BATCH_NORM, "gelu")
    stages = [Stage(enter=stem, blocks=(conv_block(dims[0]),) * depths[0])]
    for index in range(1, len(dims)):
        stages.append(Stage(enter=merge(dims[index]), blocks=(window_block(index),) * depths[index]))
    size = (img_size, img_size)
    return Model(stages=tuple(stages), pool=MeanPool(post_norm=NORM), head=LinearHead(), img_size=size)


LARGE: dict[str, Any] = {"dims": (96, 192, 384, 576), "heads": (3, 6, 12, 18)}
SIZES: Sizes = {
    "tiny_vit_5m_224": {"dims": (64, 128, 160, 320), "heads": (2, 4, 5, 10)},
    "tiny_vit_11m_224": {"dims": (64, 128, 256, 448), "heads": (2, 4, 8, 14)},
    "tiny_vit_21m_224": LARGE,
    "tiny_vit_21m_384": LARGE | {"img_size": 384},
    "tiny_vit_21m_512": LARGE | {"img_size": 512},
}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block, ours = "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches"
    convs = {
        "patch_embed.conv1": "stages.0.enter.steps.0",
        "patch_embed.conv2": "stages.0.enter.steps.1",
        f"{block}.local_conv": f"{ours}.1.mixer",
    }
    for step in range(3):
        convs[f"stages.{{s}}.downsample.conv{step + 1}"] = f"stages.{{s}}.enter.steps.{step}"
        convs[f"{block}.conv{step + 1}"] = f"{ours}.0.mixer.steps.{step}"
    inside = f"{ours}.0.mixer.attention.steps"
    rules: list[Rule] = [
        Rename(f"{block}.attn.norm", f"{inside}.0.norm"),
        Rename(f"{block}.attn.qkv", f"{inside}.1.qkv.linear"),
        Rename(f"{block}.attn.attention_biases", f"{inside}.1.bias.table"),
        Rename(f"{block}.attn.proj", f"{inside}.1.proj.linear"),
        Rename(f"{block}.mlp.norm", f"{ours}.2.norm"),
        Rename(f"{block}.mlp", f"{ours}.2.mixer"),
        Rename("head.norm", "pool.post_norm"),
        Rename("head.fc", "head"),
    ]
    return KeyRules([*rules, *normed_rules(convs, conv="conv")])


FAMILY = Family(name="tiny_vit", paper="arXiv 2207.10666", build=tiny_vit, sizes=SIZES, layouts={"timm": timm_rules})
