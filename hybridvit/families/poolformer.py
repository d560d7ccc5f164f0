"""PoolFormer: a pyramid whose blocks mix positions by nothing but the mean of neighbours (arXiv 2111.11418).

`poolformerv2` is the second version (2210.13452). timm normalises the mean of the first version's last map; its authors
and transformers normalise the map, by groups, and then take the mean: `poolformer(..., norm_first=True)`.
"""

from .. import components as c
from . import Family, Model, PerStage, Sizes, classifier
from .metaformer import pyramid, timm_rules

NORM, UNBIASED = c.GroupNorm(groups=1), c.GroupNorm(groups=1, eps=1e-6, bias=False)


def poolformer(
    *, dims: PerStage, depths: PerStage, layer_scale: float | None = None, norm_first: bool = False
) -> Model:
    """A PoolFormer of given widths and depths: of the first version with `layer_scale`, of the second without."""
    norm = UNBIASED if layer_scale is None else NORM
    stages = pyramid(dims, depths, [c.NeighbourMean()] * len(dims), norm, layer_scale)
    pool = c.MeanPool(norm=norm) if norm_first else c.MeanPool(post_norm=c.LayerNorm())
    return classifier(stages, pool)


SMALL, MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)
SIZES: Sizes = {
    "poolformer_s12": {"dims": SMALL, "depths": (2, 2, 6, 2), "layer_scale": 1e-5},
    "poolformer_s24": {"dims": SMALL, "depths": (4, 4, 12, 4), "layer_scale": 1e-5},
    "poolformer_s36": {"dims": SMALL, "depths": (6, 6, 18, 6), "layer_scale": 1e-6},
    "poolformer_m36": {"dims": MEDIUM, "depths": (6, 6, 18, 6), "layer_scale": 1e-6},
    "poolformer_m48": {"dims": MEDIUM, "depths": (8, 8, 24, 8), "layer_scale": 1e-6},
}
SIZES |= {name.replace("_", "v2_"): of | {"layer_scale": None} for name, of in SIZES.items()}
FAMILY = Family("poolformer", "arXiv 2111.11418", poolformer, SIZES, {"timm": timm_rules})
