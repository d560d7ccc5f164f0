"""PoolFormer: a pyramid whose blocks mix positions by nothing but the mean of neighbours (arXiv 2111.11418).

`poolformerv2` is the second version (2210.13452). timm normalises the mean of the first version's last map; its authors
and transformers normalise the map, by groups, and then take the mean: `poolformer(..., norm_first=True)`.
"""

from ..components import GroupNorm, LayerNorm, MeanPool, NeighbourMean
from . import Family, Model, PerStage, Sizes, classifier
from .metaformer import pyramid, timm_rules

NORM, UNBIASED = GroupNorm(groups=1), GroupNorm(groups=1, eps=1e-6, bias=False)


def poolformer(
    *, dims: PerStage, depths: PerStage, layer_scale: float | None = None, norm_first: bool = False
) -> Model:
    """A PoolFormer of given widths and depths: of the first version with a `layer_scale`, of the second without."""
    norm = UNBIASED if layer_scale is None else NORM
    stages = pyramid(dims, depths, (NeighbourMean(),) * len(dims), norm, layer_scale)
    pool = MeanPool(norm=norm) if norm_first else MeanPool(post_norm=LayerNorm())
    return classifier(stages, pool)


def _sizes() -> Sizes:
    small, medium = (64, 128, 320, 512), (96, 192, 384, 768)
    numbers: Sizes = {
        "s12": {"dims": small, "depths": (2, 2, 6, 2)},
        "s24": {"dims": small, "depths": (4, 4, 12, 4)},
        "s36": {"dims": small, "depths": (6, 6, 18, 6)},
        "m36": {"dims": medium, "depths": (6, 6, 18, 6)},
        "m48": {"dims": medium, "depths": (8, 8, 24, 8)},
    }
    scales = {"s12": 1e-5, "s24": 1e-5, "s36": 1e-6, "m36": 1e-6, "m48": 1e-6}
    first = {f"poolformer_{name}": of | {"layer_scale": scales[name]} for name, of in numbers.items()}
    return first | {f"poolformerv2_{name}": of for name, of in numbers.items()}


FAMILY = Family("poolformer", "arXiv 2111.11418", poolformer, _sizes(), {"timm": timm_rules})
