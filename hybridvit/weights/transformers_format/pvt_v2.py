"""transformers' `pvt_v2`."""

from __future__ import annotations

from ...encoder import Model
from ...families.pvt_v2 import NORM, OURS, last_norms, pvt_v2
from ...keys import Concat, KeyRules, linear_to_conv, renames
from .config import Config, ModelType, Shapes, prefix, require, several


def read(config: Config, shapes: Shapes) -> Model:
    """A PVTv2 with one epsilon in every norm; the authors have another in entrances and in front of keys."""
    require(config, num_encoder_blocks=4, patch_sizes=(7, 3, 3, 3), strides=(4, 2, 2, 2), hidden_act="gelu")
    require(config, qkv_bias=True, layer_norm_eps=NORM.eps)
    linear = config.get("linear_attention", False)
    if not linear:
        require(config, sr_ratios=(8, 4, 2, 1))
    return pvt_v2(
        dims=several(config, "hidden_sizes", 32, 64, 160, 256),
        depths=several(config, "depths", 2, 2, 2, 2),
        heads=several(config, "num_attention_heads", 1, 2, 5, 8),
        ratios=several(config, "mlp_ratios", 8, 8, 4, 4),
        linear=linear,
        entrance_norm=NORM,
    )


def rules(model: Model) -> KeyRules:
    """The layout, the same in files and in memory."""
    stage = f"{prefix(model, 'pvt_v2')}encoder.layers.{{s}}"
    block, attention = f"{stage}.blocks.{{b}}", f"{stage}.blocks.{{b}}.attention"
    reduce = "spatial_reduction=reduce.steps.1.conv layer_norm=reduce.steps.1.norm"
    return KeyRules(
        Concat([f"{attention}.key", f"{attention}.value"], f"{OURS}.0.mixer.key_value"),
        renames(attention, f"{OURS}.0.mixer", f"query proj {reduce}"),
        renames(block, OURS, "layer_norm_1=0.norm layer_norm_2=1.norm mlp.dwconv.dwconv=1.mixer.steps.1.conv"),
        renames(f"{block}.mlp", f"{OURS}.1.mixer.steps", "dense1=0.conv dense2=2.conv", linear_to_conv),
        renames(f"{stage}.patch_embedding", "stages.{s}.enter", "proj=conv layer_norm=norm"),
        last_norms(model, f"{stage}.layer_norm"),
        renames("", "", "classifier=head"),
    )


PVT_V2 = ModelType("pvt_v2", read, rules)
