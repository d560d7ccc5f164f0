"""PoolFormer: a pyramid whose blocks mix positions by nothing but the mean of neighbours (arXiv 2111.11418).

`poolformerv2` is the second version (2210.13452). timm normalises the mean of the first version's last map; its authors
and transformers normalise the map, by groups, and then take the mean: `poolformer(..., norm_first=True)`.
"""

from ..components import GroupNorm, LayerNorm, LinearHead, MeanPool, NeighbourMean
from ..encoder import Model
from ..keys import KeyRules, Rename
from ..layouts import transformers_prefix
from . import Family, Sizes
from .metaformer import pyramid, timm_rules

PerStage = tuple[int, ...]

NORM, UNBIASED = GroupNorm(groups=1), GroupNorm(groups=1, eps=1e-6, bias=False)


def poolformer(
    *, dims: PerStage, depths: PerStage, layer_scale: float | None = None, norm_first: bool = False
) -> Model:
    """A PoolFormer of given widths and depths: of the first version with a `layer_scale`, of the second without."""
    norm = UNBIASED if layer_scale is None else NORM
    stages = pyramid(dims, depths, (NeighbourMean(),) * len(dims), norm, layer_scale)
    pool = MeanPool(norm=norm) if norm_first else MeanPool(post_norm=LayerNorm())
    return Model(stages=stages, pool=pool, head=LinearHead())


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


def transformers_rules(model: Model) -> KeyRules:
    """The layout of PoolFormerForImageClassification, which has the first version."""
    base = f"{transformers_prefix(model, 'poolformer')}encoder"
    block, ours = f"{base}.block.{{s}}.{{b}}", "stages.{s}.blocks.{b}.branches"
    norm_first = isinstance(model.pool, MeanPool) and model.pool.norm is not None
    return KeyRules(
        [
            Rename(f"{base}.patch_embeddings.0.projection", "stages.0.enter.conv"),
            Rename(f"{base}.patch_embeddings.{{s}}.projection", "stages.{s}.enter.steps.1.conv"),
            Rename(f"{block}.before_norm", f"{ours}.0.norm"),
            Rename(f"{block}.layer_scale_1", f"{ours}.0.layer_scale"),
            Rename(f"{block}.after_norm", f"{ours}.1.norm"),
            Rename(f"{block}.output.conv1", f"{ours}.1.mixer.steps.0.conv"),
            Rename(f"{block}.output.conv2", f"{ours}.1.mixer.steps.2.conv"),
            Rename(f"{block}.layer_scale_2", f"{ours}.1.layer_scale"),
            Rename("norm", "pool.norm" if norm_first else "pool.post_norm"),
            Rename("classifier", "head"),
        ]
    )


LAYOUTS = {"timm": timm_rules, "transformers": transformers_rules}
FAMILY = Family(name="poolformer", paper="arXiv 2111.11418", build=poolformer, sizes=_sizes(), layouts=LAYOUTS)
