"""transformers' `poolformer`."""

from __future__ import annotations

from ...components import MeanPool
from ...encoder import Model
from ...families.poolformer import poolformer
from ...keys import KeyRules, renames
from .config import Config, ModelType, Shapes, prefix, require, several


def read(config: Config, shapes: Shapes) -> Model:
    """A PoolFormer of the first version, which normalises the last map before its mean; without classifier, not."""
    require(config, num_encoder_blocks=4, patch_sizes=(7, 3, 3, 3), strides=(4, 2, 2, 2), padding=(2, 1, 1, 1))
    require(config, pool_size=3, mlp_ratio=4, hidden_act="gelu", use_layer_scale=True)
    model = poolformer(
        dims=several(config, "hidden_sizes", 64, 128, 320, 512),
        depths=several(config, "depths", 2, 2, 6, 2),
        layer_scale=1e-5,
        norm_first=True,
    )
    return model if "norm.weight" in shapes else model.replace(pool=MeanPool())


def rules(model: Model) -> KeyRules:
    """The layout, the same in files and in memory. A model normalised after its mean, timm's, fits too."""
    base, ours = f"{prefix(model, 'poolformer')}encoder", "stages.{s}.blocks.{b}.branches"
    norm_first = isinstance(model.pool, MeanPool) and model.pool.norm is not None
    mlp = "after_norm=1.norm output.conv1=1.mixer.steps.0.conv output.conv2=1.mixer.steps.2.conv"
    scales = "layer_scale_1=0.layer_scale layer_scale_2=1.layer_scale"
    return KeyRules(
        renames(f"{base}.patch_embeddings", "stages", "0.projection=0.enter.conv"),
        renames(f"{base}.patch_embeddings", "stages", "{s}.projection={s}.enter.steps.1.conv"),
        renames(f"{base}.block.{{s}}.{{b}}", ours, f"before_norm=0.norm {mlp} {scales}"),
        renames("", "", f"norm={'pool.norm' if norm_first else 'pool.post_norm'} classifier=head"),
    )


POOLFORMER = ModelType("poolformer", read, rules)
