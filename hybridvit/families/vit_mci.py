"""MobileCLIP's ViT: three layers of patches in patches, then a ViT (arXiv 2311.17049, 2508.20691)."""

from ..components import Activate, BatchNorm, LearnedPosition, Patchify, Steps, TokenPool
from ..layouts import HEAD_RULES, trunk_rules
from ..trunks import NORM, WIDTHS, vit_model, vit_stage
from . import Family, KeyRules, Model, Sizes, Stage, renames


def vit_mci(*, width: str, img_size: int, num_classes: int) -> Model:
    """A tower of a named width, with classifier to the space that images share with texts."""
    of = WIDTHS[width]

    def patches(patch: int) -> Stage:
        layer = Patchify(dim=of.dim // 4, patch=patch, bias=False, norm=BatchNorm())
        return Stage(enter=Steps(steps=(layer, Activate(act="gelu"))))

    trunk = vit_stage(enter=Patchify(dim=of.dim, patch=2), width=of, position=LearnedPosition(on_prefix=False))
    model = vit_model(trunk, TokenPool(norm=NORM), img_size, num_classes)
    return model.replace(stages=(patches(4), patches(2), trunk))


SIZES: Sizes = {"vit_base_mci_224": {"width": "base", "img_size": 224, "num_classes": 512}}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    rules = renames("", "", "cls_token=stages.2.prefix.tokens patch_embed.backbone.2=stages.2.enter")
    rules += renames("patch_embed.backbone.{s}", "stages.{s}.enter.steps.0", "conv bn=norm")
    return KeyRules(rules, trunk_rules(stage=2), HEAD_RULES)


FAMILY = Family(name="vit_mci", paper="arXiv 2311.17049", build=vit_mci, sizes=SIZES, layouts={"timm": timm_rules})
