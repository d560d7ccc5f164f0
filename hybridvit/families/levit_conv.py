"""LeViT with 1x1 convolutions in its checkpoints instead of linear layers: the same models in another layout."""

from ..keys import conv_to_linear
from . import Family, KeyRules, Model
from .levit import levit, model_sizes, timm_rules


def timm_conv_rules(model: Model) -> KeyRules:
    """timm's layout of its `levit_conv` models."""
    return timm_rules(model, conv_to_linear)


SIZES = model_sizes("levit_conv")
FAMILY = Family("levit_conv", "arXiv 2104.01136", levit, SIZES, {"timm": timm_conv_rules})
