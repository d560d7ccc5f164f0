"""Hybrid ViT: a ResNet makes the tokens that a ViT mixes (arXiv 2010.11929, 2106.10270).

`r26` and `r50` are BiT's ResNets (1912.11370) with activations after the convolutions, and padded as TensorFlow pads;
`r` is only their stem, under patches of 8 x 8. `resnet26d` and `resnet50d` are those of the family `resnet`.
"""

from .. import components as c
from ..layouts import HEAD_RULES, trunk_rules
from ..trunks import NORM, WIDTHS, Width, vit_stage
from . import Family, KeyRules, Model, Rule, Sizes, Stage, classifier, renames
from .resnet import STEM_WIDTH, body_rules, residual_stages, resnet_rules, resnet_stages

BIT = c.Residual(conv=c.StdConv, norm=c.GroupNorm(), padding="same")


def bit_stages(*depths: int) -> tuple[Stage, ...]:
    """Stem, and as many stages as there are depths, of BiT's ResNet for hybrids."""
    return residual_stages(BIT, stem=(STEM_WIDTH,), depths=depths, pool=c.MaxPool(padding="same"))


BIT_DEPTHS = {"r": (), "r26_s32": (2, 2, 2, 2), "r50_s16": (3, 4, 9), "r50_s32": (3, 4, 6, 3)}
BACKBONES = {name: bit_stages(*depths) for name, depths in BIT_DEPTHS.items()}
BACKBONES |= {f"resnet{layers}d": resnet_stages(layers=layers, deep=True) for layers in (26, 50)}
BACKBONES["resnet50d_s16"] = resnet_stages(layers=50, deep=True, count=3)
TRUNKS = WIDTHS | {"shallow": Width(768, depth=8, heads=8, mlp_ratio=3)}


def vit_hybrid(*, backbone: str, trunk: str, patch: int = 1) -> Model:
    """A ViT on patches of a ResNet's last map."""
    stages = (*BACKBONES[backbone], vit_stage(enter=patch, width=TRUNKS[trunk]))
    return classifier(stages, c.TokenPool(norm=NORM))


def bit_rules(conv: str, norm: str, blocks: str) -> list[Rule]:
    """The names of BiT's stem, and those of its blocks, below `blocks` of each stage."""
    enter = "stages.{s+2}.enter.steps.0"
    rules = renames("", "", f"{conv}=stages.0.enter.steps.0.conv {norm}=stages.0.enter.steps.0.norm")
    rules += renames(f"{blocks}.0", enter, "downsample=shortcut") + body_rules(f"{blocks}.0", f"{enter}.body", "norm")
    return rules + body_rules(f"{blocks}.{{b+1}}", "stages.{s+2}.blocks.{b}.branches.0.mixer", "norm")


def timm_rules(model: Model) -> KeyRules:
    """timm's layout: the ResNet under `patch_embed.backbone`; if it is a stem alone, without a name of its own."""
    last, backbone = len(model.stages) - 1, "patch_embed.backbone"
    stem = f"{backbone}.stem" if last > len(BACKBONES["r"]) else backbone
    bit = model.stages[0] == BACKBONES["r"][0]
    rules = bit_rules(f"{stem}.conv", f"{stem}.norm", f"{backbone}.stages.{{s}}.blocks") if bit else []
    rules += renames("", f"stages.{last}", "patch_embed.proj=enter.conv cls_token=prefix.tokens")
    return KeyRules(rules, [] if bit else resnet_rules(model, f"{backbone}."), trunk_rules(last), HEAD_RULES)


SIZES: Sizes = {
    "vit_tiny_r_s16_p8_224": {"backbone": "r", "trunk": "tiny", "patch": 8},
    "vit_tiny_r_s16_p8_384": {"backbone": "r", "trunk": "tiny", "patch": 8, "img_size": 384},
    "vit_small_r26_s32_224": {"backbone": "r26_s32", "trunk": "small"},
    "vit_small_r26_s32_384": {"backbone": "r26_s32", "trunk": "small", "img_size": 384},
    "vit_base_r26_s32_224": {"backbone": "r26_s32", "trunk": "base"},
    "vit_base_r50_s16_224": {"backbone": "r50_s16", "trunk": "base", "num_classes": 0},
    "vit_base_r50_s16_384": {"backbone": "r50_s16", "trunk": "base", "img_size": 384},
    "vit_large_r50_s32_224": {"backbone": "r50_s32", "trunk": "large"},
    "vit_large_r50_s32_384": {"backbone": "r50_s32", "trunk": "large", "img_size": 384},
    "vit_small_resnet26d_224": {"backbone": "resnet26d", "trunk": "shallow"},
    "vit_small_resnet50d_s16_224": {"backbone": "resnet50d_s16", "trunk": "shallow"},
    "vit_base_resnet26d_224": {"backbone": "resnet26d", "trunk": "base"},
    "vit_base_resnet50d_224": {"backbone": "resnet50d", "trunk": "base"},
}
FAMILY = Family("vit_hybrid", "arXiv 2010.11929", vit_hybrid, SIZES, {"timm": timm_rules})
