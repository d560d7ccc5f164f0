"""ViTamin: two stages of MBConv, then a ViT with gated MLPs (arXiv 2404.02132)."""

from .. import components as c
from ..layouts import HEAD_RULES, trunk_rules
from ..trunks import NORM, Width, vit_stage
from . import Family, KeyRules, Model, Sizes, Stage, classifier, renames

WIDTHS = {"small": (64, 128, Width(384, 14, 6, 2)), "base": (128, 256, Width(768, 14, 12, 2))}
WIDTHS |= {"large": (160, 320, Width(1024, 31, 16, 2)), "xlarge": (192, 384, Width(1152, 32, 16, 2))}


def vitamin(*, width: str) -> Model:
    """A ViTamin of a named width. The widest has no absolute positions."""
    stem, second, of = WIDTHS[width]

    def body(dim: int, stride: int = 1) -> c.Transition:
        wide = c.Conv(dim=4 * dim, bias=True, act="gelu")
        filters = wide.replace(kernel=3, stride=stride, groups=4 * dim)
        return c.Steps(steps=(c.Normalize(norm=NORM), wide, filters, c.Conv(dim=dim, bias=True)))

    def stage(in_dim: int, dim: int, depth: int) -> Stage:
        shortcut = c.pooled_shortcut(in_dim, dim, c.AvgPool(overlap=True), bias=True)
        enter, block = c.Add(shortcut=shortcut, body=body(dim, 2)), c.residual_block(body(dim))
        return Stage(enter=enter, blocks=(block,) * (depth - 1))

    down = c.Conv(dim=of.dim, kernel=3, stride=2, bias=True)
    mlp = c.Steps(steps=(c.Normalize(norm=NORM), c.GatedMlp(hidden=of.hidden, act="gelu")))
    block = c.transformer_block(c.Attention(heads=of.heads), mlp, NORM)
    enter = c.Steps(steps=(c.Normalize(norm=NORM), down))
    position = c.NoPosition() if width == "xlarge" else c.LearnedPosition()
    trunk = vit_stage(enter=enter, width=of, prefix=0, position=position, block=block)
    first = Stage(enter=c.conv_stem((stem, stem), NORM, "gelu", bias=True))
    stages = (first, stage(stem, stem, 2), stage(stem, second, 4), trunk)
    return classifier(stages, c.MeanPool(post_norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    base, steps = "patch_embed.backbone", "pre_norm=0.norm conv1_1x1=1.conv conv2_kxk=2.conv conv3_1x1=3.conv"
    rules = renames(f"{base}.stem", "stages.0.enter.steps", "conv1=0.conv norm1=0.norm conv2=1.conv")
    rules += renames(f"{base}.stages.{{s}}.0.shortcut", "stages.{s+1}.enter.shortcut.steps", "expand=1.conv")
    rules += renames(f"{base}.pool", "stages.3.enter.steps", "norm=0.norm proj=1.conv")
    rules += renames(f"{base}.stages.{{s}}.0", "stages.{s+1}.enter.body.steps", steps)
    rules += renames(f"{base}.stages.{{s}}.{{b+1}}", "stages.{s+1}.blocks.{b}.branches.0.mixer.steps", steps)
    mlp = "norm=0.norm w0=1.gate w1=1.value w2=1.proj"
    rules += renames("blocks.{b}.mlp", "stages.3.blocks.{b}.branches.1.mixer.steps", mlp)
    return KeyRules(rules, trunk_rules(stage=3), HEAD_RULES)


SIZES: Sizes = {
    f"vitamin_{name}_{size}": {"width": name.removesuffix("2"), "img_size": size, "num_classes": count}
    for name, count, sizes in (
        ("small", 768, (224,)),
        ("base", 768, (224,)),
        ("large", 768, (224, 256, 336, 384)),
        ("large2", 1024, (224, 256, 336, 384)),
        ("xlarge", 1152, (256, 336, 384)),
    )
    for size in sizes
}
FAMILY = Family("vitamin", "arXiv 2404.02132", vitamin, SIZES, {"timm": timm_rules})
