"""MobileCLIP's ViT: three layers of patches in patches, then a ViT (arXiv 2311.17049, 2508.20691)."""

from .. import components as c
from ..layouts import HEAD_RULES, trunk_rules
from ..trunks import NORM, WIDTHS, vit_stage
from . import Family, KeyRules, Model, Sizes, Stage, classifier, renames


def vit_mci(*, width: str) -> Model:
    """A tower of a named width. Its classifier projects to the space that images share with texts."""
    of = WIDTHS[width]

    def patches(patch: int) -> Stage:
        layer = c.Patchify(dim=of.dim // 4, patch=patch, bias=False, norm=c.BatchNorm())
        return Stage(enter=c.Steps(steps=(layer, c.Activate(act="gelu"))))

    trunk = vit_stage(enter=2, width=of, position=c.LearnedPosition(on_prefix=False))
    return classifier((patches(4), patches(2), trunk), c.TokenPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    rules = renames("", "", "cls_token=stages.2.prefix.tokens patch_embed.backbone.2=stages.2.enter")
    rules += renames("patch_embed.backbone.{s}", "stages.{s}.enter.steps.0", "conv bn=norm")
    return KeyRules(rules, trunk_rules(stage=2), HEAD_RULES)


SIZES: Sizes = {"vit_base_mci_224": {"width": "base", "num_classes": 512}}
FAMILY = Family("vit_mci", "arXiv 2311.17049", vit_mci, SIZES, {"timm": timm_rules})
