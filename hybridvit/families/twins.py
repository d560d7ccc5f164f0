"""Twins (arXiv 2104.13840): attention to a summary of the map, in `svt` models in turns with attention in windows.

A filter of each channel behind the first block of a stage tells tokens where they are (2102.10882).
"""

from .. import components as c
from . import Family, KeyRules, Model, Numbers, PerStage, Sizes, Stage, classifier, renames

NORM, SUMMARY_NORM = c.LayerNorm(eps=1e-6), c.LayerNorm(eps=1e-5)
WINDOW, REDUCTIONS = (7, 7), (8, 4, 2, 1)


def twins(*, dims: PerStage, depths: PerStage, head_dim: int, windows: bool = False) -> Model:
    """A Twins of given widths, depths and width of heads. `windows`: every other block, from the first on, is local."""
    stages: list[Stage] = []
    mlp_ratios = (4, 4, 4, 4) if windows else (8, 8, 4, 4)
    for dim, depth, ratio, side in zip(dims, depths, mlp_ratios, REDUCTIONS, strict=True):
        count = dim // head_dim
        mlp, reduce = c.Mlp(hidden=ratio * dim), c.summaries(dim, side, SUMMARY_NORM)
        whole = c.transformer_block(c.ReducedAttention(heads=count, reduce=reduce), mlp, NORM)
        local = c.transformer_block(c.WindowAttention(attention=c.Attention(heads=count), window=WINDOW), mlp, NORM)
        first, *others = (local if windows and index % 2 == 0 else whole for index in range(depth))
        position = c.Branch(mixer=c.Conv(dim=dim, kernel=3, groups=dim, bias=True))
        enter = c.Patchify(dim=dim, patch=2 if stages else 4, norm=SUMMARY_NORM)
        stages.append(Stage(enter=enter, blocks=(c.Block(branches=(*first.branches, position)), *others)))
    return classifier(stages, c.MeanPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    theirs, ours = "blocks.{s}.{b}", "stages.{s}.blocks.{b}.branches"
    rules = renames("patch_embeds.{s}", "stages.{s}.enter", "proj=conv norm")
    rules += renames("", "", "pos_block.{s}.proj.0=stages.{s}.blocks.0.branches.2.mixer.conv norm=pool.norm head")
    rules += renames(theirs, ours, "norm1=0.norm norm2=1.norm mlp=1.mixer")
    summarised = "q=query kv=key_value sr=reduce.steps.1.conv norm=reduce.steps.1.norm qkv=attention.qkv"
    rules += renames(f"{theirs}.attn", f"{ours}.0.mixer", summarised)
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage.blocks):
            proj = "attention.proj" if isinstance(block.branches[0].mixer, c.WindowAttention) else "proj"
            rules += renames(f"blocks.{s}.{b}.attn", f"stages.{s}.blocks.{b}.branches.0.mixer", f"proj={proj}")
    return KeyRules(rules)


PCPVT: Numbers = {"dims": (64, 128, 320, 512), "head_dim": 64}
SVT: Numbers = {"head_dim": 32, "windows": True}
SIZES: Sizes = {
    "twins_pcpvt_small": PCPVT | {"depths": (3, 4, 6, 3)},
    "twins_pcpvt_base": PCPVT | {"depths": (3, 4, 18, 3)},
    "twins_pcpvt_large": PCPVT | {"depths": (3, 8, 27, 3)},
    "twins_svt_small": SVT | {"dims": (64, 128, 256, 512), "depths": (2, 2, 10, 4)},
    "twins_svt_base": SVT | {"dims": (96, 192, 384, 768), "depths": (2, 2, 18, 2)},
    "twins_svt_large": SVT | {"dims": (128, 256, 512, 1024), "depths": (2, 2, 18, 2)},
}
FAMILY = Family("twins", "arXiv 2104.13840", twins, SIZES, {"timm": timm_rules})
