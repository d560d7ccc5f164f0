"""ViTamin: two stages of MBConv, then a ViT with gated MLPs (arXiv 2404.02132)."""

from ..components import Add, Attention, AvgPool, Conv, GatedMlp, MeanPool, Normalize, Steps, conv_stem, pooled_shortcut
from ..components.blocks import residual_block, transformer_block
from ..components.functions import NoPosition
from ..components.positions import LearnedPosition
from ..layouts import HEAD_RULES, trunk_rules
from ..trunks import NORM, Width, vit_stage
from . import Family, KeyRules, Model, Sizes, Stage, Transition, classifier, renames

WIDTHS = {
    "small": (64, 128, Width(384, 14, 6, 2)),
    "base": (128, 256, Width(768, 14, 12, 2)),
    "large": (160, 320, Width(1024, 31, 16, 2)),
    "xlarge": (192, 384, Width(1152, 32, 16, 2)),
}


def vitamin(*, width: str) -> Model:
    """A ViTamin of a named width. The widest has no absolute positions."""
    stem, second, of = WIDTHS[width]

    def body(dim: int, stride: int = 1) -> Transition:
        wide = Conv(dim=4 * dim, bias=True, act="gelu")
        filters = wide.replace(kernel=3, stride=stride, groups=4 * dim)
        return Steps(steps=(Normalize(norm=NORM), wide, filters, Conv(dim=dim, bias=True)))

    def stage(in_dim: int, dim: int, depth: int) -> Stage:
        shortcut = pooled_shortcut(in_dim, dim, AvgPool(overlap=True), bias=True)
        return Stage(enter=Add(shortcut=shortcut, body=body(dim, 2)), blocks=(residual_block(body(dim)),) * (depth - 1))

    down = Conv(dim=of.dim, kernel=3, stride=2, bias=True)
    mlp = Steps(steps=(Normalize(norm=NORM), GatedMlp(hidden=of.hidden, act="gelu")))
    block = transformer_block(Attention(heads=of.heads), mlp, NORM)
    enter = Steps(steps=(Normalize(norm=NORM), down))
    position = NoPosition() if width == "xlarge" else LearnedPosition()
    trunk = vit_stage(enter=enter, width=of, prefix=0, position=position, block=block)
    first = Stage(enter=conv_stem((stem, stem), NORM, "gelu", bias=True))
    stages = (first, stage(stem, stem, 2), stage(stem, second, 4), trunk)
    return classifier(stages, MeanPool(post_norm=NORM))


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
