"""transformers' repositories: how each model type is read, one file a type or a few that are alike.

A reader makes a spec of a config's numbers and refuses what is not computed here; beside it are the key rules, for the
names in files and those that models of version 5 have in memory.
"""

from __future__ import annotations

from .beit import BEIT
from .config import ModelType, Rules, UnsupportedConfigError
from .cvt import CVT
from .dinov2 import DINOV2
from .dinov3 import DINOV3
from .efficientformer import EFFICIENTFORMER
from .hiera import HIERA
from .levit import LEVIT
from .mobilevit import MOBILEVIT, MOBILEVITV2
from .poolformer import POOLFORMER
from .pvt_v2 import PVT_V2
from .swiftformer import SWIFTFORMER
from .swin import SWIN, SWINV2
from .vit import DEIT, VIT, VIT_HYBRID

__all__ = ["MODEL_TYPES", "UnsupportedConfigError", "transformers_layouts"]

MODEL_TYPES: dict[str, ModelType] = {
    "vit": VIT,
    "deit": DEIT,
    "vit-hybrid": VIT_HYBRID,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2,
    "dinov3_vit": DINOV3,
    "beit": BEIT,
    "swin": SWIN,
    "swinv2": SWINV2,
    "hiera": HIERA,
    "cvt": CVT,
    "levit": LEVIT,
    "mobilevit": MOBILEVIT,
    "mobilevitv2": MOBILEVITV2,
    "pvt_v2": PVT_V2,
    "swiftformer": SWIFTFORMER,
    "poolformer": POOLFORMER,
    "efficientformer": EFFICIENTFORMER,
}


def transformers_layouts(family: str) -> dict[str, Rules]:
    """transformers' layouts of the models of a family, by name: of files and, where it is another, of memory."""
    types = (kind for kind in MODEL_TYPES.values() if kind.family == family)
    return {name: rules for kind in types for name, rules in kind.layouts().items()}
