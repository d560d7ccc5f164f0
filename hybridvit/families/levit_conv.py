"""LeViT with 1x1 convolutions in its checkpoints instead of linear layers: the same models in another layout."""

from functools import partial

from . import Family, conv_to_linear
from .levit import levit, model_sizes, timm_rules

SIZES = model_sizes("levit_conv")
FAMILY = Family("levit_conv", "arXiv 2104.01136", levit, SIZES, {"timm": partial(timm_rules, make=conv_to_linear)})
