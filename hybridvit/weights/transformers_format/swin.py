"""transformers' `swin` and `swinv2`."""

from __future__ import annotations

from typing import Any

from ...encoder import Model
from ...families.swin import ATTENTION, OURS, swin
from ...families.swinv2 import swinv2
from ...keys import KeyRules, renames
from ...limits import shown
from .config import (
    Config,
    ModelType,
    Shapes,
    UnsupportedConfigError,
    prefix,
    query_key_value,
    renamed,
    require,
    several,
)


def numbers(config: Config) -> dict[str, Any]:
    """The numbers of either version."""
    require(config, patch_size=4, mlp_ratio=4, qkv_bias=True, hidden_act="gelu", layer_norm_eps=1e-5)
    require(config, use_absolute_embeddings=False)
    depths, heads = several(config, "depths", 2, 2, 6, 2), several(config, "num_heads", 3, 6, 12, 24)
    windows = (config.get("window_size", 7),) * len(depths)
    return {"dim": config.get("embed_dim", 96), "depths": depths, "heads": heads, "windows": windows}


def read_swin(config: Config, shapes: Shapes) -> Model:
    """A `swin`."""
    return swin(**numbers(config))


def read_swinv2(config: Config, shapes: Shapes) -> Model:
    """A `swinv2`, whose windows are at most as wide as the map; trained windows of 0 are these."""
    of, size = numbers(config), config.get("image_size", 224)
    if not isinstance(size, int):
        if len(set(size)) > 1:
            raise UnsupportedConfigError(f"image_size is {shown(size)}, and only square ones can be built")
        size = size[0]
    windows = tuple(min(window, size // 4 >> stage) for stage, window in enumerate(of["windows"]))
    trained = zip(several(config, "pretrained_window_sizes", *(0,) * len(windows)), windows, strict=False)
    of |= {"windows": windows}
    return swinv2(**of, trained_windows=tuple(before or window for before, window in trained))


EMBEDDINGS = "embeddings.patch_embeddings.projection=stages.0.enter.conv embeddings.norm=stages.0.enter.norm"


def swin_rules(model: Model) -> KeyRules:
    """The layout of files. Old ones hold what follows from windows too."""
    at = prefix(model, "swin")
    block, table = f"{at}encoder.layers.{{s}}.blocks.{{b}}", "attention.self.relative_position_bias_table"
    norms = "layernorm_before=0.norm layernorm_after=1.norm"
    return KeyRules(
        renames(at.rstrip("."), "", f"{EMBEDDINGS} layernorm=pool.norm"),
        renames(f"{at}encoder", "", "layers.{s}.downsample=stages.{s+1}.enter"),
        query_key_value(f"{block}.attention.self", ATTENTION),
        renames(block, ATTENTION, f"{table}=bias.table attention.output.dense=proj"),
        renames(block, OURS, f"{norms} intermediate.dense=1.mixer.fc1 output.dense=1.mixer.fc2"),
        renames("", "", "classifier=head"),
        dropped=[f"{at}embeddings.mask_token"],
        constants=[f"{block}.attention.self.relative_position_index"],
    )


def swinv2_rules(model: Model) -> KeyRules:
    """The layout, the same in files and in memory. Old files hold what follows from windows too."""
    at = prefix(model, "swinv2")
    block, down = f"{at}encoder.layers.{{s}}.blocks.{{b}}", f"{at}encoder.layers.{{s}}.downsample"
    attention = "logit_scale=log_factor continuous_position_bias_mlp.0=bias.fc1 continuous_position_bias_mlp.2=bias.fc2"
    norms = "layernorm_before=0.post_norm layernorm_after=1.post_norm"
    constants = ("relative_position_index", "relative_coords_table")
    return KeyRules(
        renames(at.rstrip("."), "", f"{EMBEDDINGS} layernorm=pool.norm"),
        renames(down, "stages.{s+1}.enter.steps", "reduction=0.reduction norm=1.norm"),
        renames(f"{block}.attention.self", ATTENTION, f"{attention} query key value"),
        renames(block, ATTENTION, "attention.output.dense=proj"),
        renames(block, OURS, f"{norms} intermediate.dense=1.mixer.fc1 output.dense=1.mixer.fc2"),
        renames("", "", "classifier=head"),
        dropped=[f"{at}embeddings.mask_token"],
        constants=[f"{block}.attention.self.{name}" for name in constants],
    )


IN_MEMORY = {
    "attention.self.query": "attention.q_proj",
    "attention.self.key": "attention.k_proj",
    "attention.self.value": "attention.v_proj",
    "attention.self.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
SWIN = ModelType("swin", read_swin, swin_rules, renamed(swin_rules, IN_MEMORY))
SWINV2 = ModelType("swinv2", read_swinv2, swinv2_rules)
