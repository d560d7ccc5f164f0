"""MaxViT: convolution, attention in blocks of neighbours, attention over a grid (arXiv 2204.01697), as timm trained it.

The sizes here are Ross Wightman's; `maxvit_rmlp_*` compute relative positions by an MLP. The paper's own are in
`maxvit_tf`. Maps that the windows do not divide are padded, where timm fails.
"""

from functools import partial

from .. import components as c
from ..layouts import MakeRule
from . import Family, KeyRules, Model, Numbers, PerStage, Rename, Rule, Sizes, Stage, classifier, renames, split_heads
from .coatnet import ENDS, HEAD_WIDTH, conv_rules, tanh_pool

CONV, NORM, BIAS = c.MBConv(act="silu", bias=False, widen_last=True), c.LayerNorm(), c.RelativePositionBias()
heads_apart: MakeRule = partial(split_heads, width=HEAD_WIDTH, conv=False)


def maxvit(
    *,
    stem: tuple[int, int],
    dims: PerStage,
    depths: PerStage,
    layouts: tuple[c.Layout, ...] = ("block", "grid"),
    attention: type[c.Attention] = c.Attention,
    conv: c.MBConv | c.ConvNeXt = CONV,
    norm: c.Norm = NORM,
    bias: c.Bias = BIAS,
    act: str = "gelu",
    layer_scale: float | None = None,
    stem_bias: bool = False,
    hidden: bool = False,
    img_size: int = 224,
) -> Model:
    """A MaxViT of given widths of the two stem convolutions, and widths and depths of the stages.

    `layouts` are those of the windows that a block attends in, one after another; a window has img_size / 32 positions
    a side. `norm`, `bias`, `act` and `layer_scale` are those of the `attention` and its MLP. `hidden`: a layer between
    mean and classifier.
    """
    window = img_size // 32, img_size // 32

    def stage(in_dim: int, dim: int, depth: int) -> Stage:
        attend, mlp = attention(heads=dim // HEAD_WIDTH, bias=bias), c.Mlp(hidden=4 * dim, act=act)
        windows = (c.WindowAttention(attention=attend, window=window, layout=layout) for layout in layouts)
        attends = tuple(b for mixer in windows for b in c.transformer_block(mixer, mlp, norm, layer_scale).branches)
        block = c.Block(branches=(c.Branch(mixer=conv.body(dim, dim)), *attends))
        shortcut = c.pooled_shortcut(in_dim, dim, c.AvgPool(), conv.bias)
        # The first convolution of a stage is its entrance.
        enter = c.Add(shortcut=shortcut, body=conv.body(in_dim, dim, stride=2))
        return Stage(enter=enter, blocks=(c.Block(branches=attends), *(block,) * (depth - 1)))

    stages = (stage(*numbers) for numbers in zip((stem[1], *dims[:-1]), dims, depths, strict=True))
    enter = Stage(enter=c.conv_stem(stem, conv.norm, conv.act, conv.padding, stem_bias))
    return classifier((enter, *stages), tanh_pool(norm, dims[-1]) if hidden else c.MeanPool(norm=norm), img_size)


def attention_rules(theirs: str, ours: str, qkv: MakeRule = heads_apart, table: MakeRule = Rename) -> list[Rule]:
    """timm's names in attention. `qkv` and `table` make the rules of queries, keys, values and of a bias table."""
    bias_table = table(f"{theirs}.rel_pos.relative_position_bias_table", f"{ours}.bias.table")
    return [qkv(f"{theirs}.qkv", f"{ours}.qkv"), bias_table, *renames(theirs, ours, "rel_pos.mlp=bias proj")]


def transformer_rules(theirs: str, attend: str, mlp: str) -> list[Rule]:
    """timm's names next to attention, of the branch that attends and of the one that follows."""
    following = renames(theirs, mlp, "norm2=norm mlp=mixer ls2.gamma=layer_scale")
    return renames(theirs, attend, "norm1=norm ls1.gamma=layer_scale") + following


def timm_rules(model: Model, qkv: MakeRule = heads_apart, table: MakeRule = Rename) -> KeyRules:
    """timm's layout. The convolution of the first block of a stage is our entrance; `qkv`, `table` as above."""
    first, others = "stages.{s}.blocks.0", "stages.{s}.blocks.{b+1}"
    our_first, our_others = "stages.{s+1}.blocks.0.branches", "stages.{s+1}.blocks.{b+1}.branches"
    rules = [*ENDS, Rename(f"{first}.conv.shortcut.expand", "stages.{s+1}.enter.shortcut.steps.1.conv")]
    rules += conv_rules(f"{first}.conv", "stages.{s+1}.enter.body.steps")
    rules += conv_rules(f"{others}.conv", f"{our_others}.0.mixer.steps")
    layouts = len(model.stages[1].blocks[0].branches) // 2
    for index, name in enumerate(("attn_block", "attn_grid")[-layouts:]):
        for theirs, ours, place in ((first, our_first, 2 * index), (others, our_others, 2 * index + 1)):
            rules += attention_rules(f"{theirs}.{name}.attn", f"{ours}.{place}.mixer.attention", qkv, table)
            rules += transformer_rules(f"{theirs}.{name}", f"{ours}.{place}", f"{ours}.{place + 1}")
    return KeyRules(rules)


MLP, AT_256, AT_384 = {"bias": c.RelativePositionMlp()}, {"img_size": 256}, {"img_size": 384}
PICO: Numbers = {"stem": (24, 32), "dims": (32, 64, 128, 256), "depths": (2, 2, 5, 2)}
TINY = PICO | {"stem": (32, 64), "dims": (64, 128, 256, 512)}
NANO = TINY | {"depths": (1, 2, 3, 1)}
SMALL_MLP = TINY | MLP | {"dims": (96, 192, 384, 768), "layer_scale": 1e-6}
BASE_MLP = SMALL_MLP | {"depths": (2, 6, 14, 2), "layer_scale": None, "hidden": True}
SIZES: Sizes = {
    "maxvit_pico_rw_256": PICO | AT_256,
    "maxvit_nano_rw_256": NANO | AT_256,
    "maxvit_tiny_rw_224": TINY,
    "maxvit_tiny_rw_256": TINY | AT_256,
    "maxvit_rmlp_pico_rw_256": PICO | MLP | AT_256,
    "maxvit_rmlp_nano_rw_256": NANO | MLP | AT_256,
    "maxvit_rmlp_tiny_rw_256": TINY | MLP | AT_256,
    "maxvit_rmlp_small_rw_224": SMALL_MLP,
    "maxvit_rmlp_small_rw_256": SMALL_MLP | AT_256,
    "maxvit_rmlp_base_rw_224": BASE_MLP,
    "maxvit_rmlp_base_rw_384": BASE_MLP | AT_384,
    "test_maxvit": {"stem": (16, 32), "dims": (32, 64, 96, 128), "depths": (1, 1, 1, 1), "img_size": 160},
}
FAMILY = Family("maxvit", "arXiv 2204.01697", maxvit, SIZES, {"timm": timm_rules})
