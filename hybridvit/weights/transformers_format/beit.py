"""transformers' `beit`."""

from __future__ import annotations

from ...components import Attention, LinearHead, MeanPool, NoPosition, TokenPool
from ...encoder import Model
from ...families.beit import ClassTokenBias
from ...keys import Concat, KeyRules, renames
from ...trunks import POSITION
from .config import Config, ModelType, Shapes, prefix, renamed, require
from .vit import IN_MEMORY, layer_norm, trunk, width


def beit(config: Config, shapes: Shapes) -> Model:
    """A BEiT whose every layer has relative positions of its own, or none."""
    require(config, use_shared_relative_position_bias=False)
    norm, relative = layer_norm(config), config.get("use_relative_position_bias", False)
    attention = Attention(heads=width(config).heads, key_bias=False, bias=ClassTokenBias() if relative else None)
    scaled = config.get("layer_scale_init_value", 0.1) > 0
    absolute = config.get("use_absolute_position_embeddings", False)
    stage = trunk(
        config,
        norm,
        position=POSITION if absolute else NoPosition(),
        attention=attention,
        layer_scale=0.1 if scaled else None,
    )
    mean = config.get("use_mean_pooling", True)
    return Model(stages=(stage,), pool=MeanPool(post_norm=norm) if mean else TokenPool(norm=norm), head=LinearHead())


def beit_rules(model: Model) -> KeyRules:
    """The layout of files. Tables of indices, and what stands for masked patches while training, are dropped."""
    at = prefix(model, "beit")
    block, ours = f"{at}encoder.layer.{{b}}", "stages.0.blocks.{b}.branches"
    attention, relative = f"{block}.attention.attention", "attention.attention.relative_position_bias"
    table = f"{relative}.relative_position_bias_table=0.mixer.bias.table"
    weights = [f"{attention}.{part}.weight" for part in ("query", "key", "value")]
    embeddings = "cls_token=prefix.tokens position_embeddings=position.table patch_embeddings.projection=enter.conv"
    attend = f"layernorm_before=0.norm {table} attention.output.dense=0.mixer.proj lambda_1=0.layer_scale"
    mlp = "layernorm_after=1.norm intermediate.dense=1.mixer.fc1 output.dense=1.mixer.fc2 lambda_2=1.layer_scale"
    norm = "pooler.layernorm=pool.post_norm" if isinstance(model.pool, MeanPool) else "layernorm=pool.norm"
    return KeyRules(
        Concat(weights, f"{ours}.0.mixer.qkv.weight"),
        Concat([f"{attention}.query.bias", f"{attention}.value.bias"], f"{ours}.0.mixer.qkv.bias"),
        renames(f"{at}embeddings", "stages.0", embeddings),
        renames(block, ours, f"{attend} {mlp}"),
        renames("", "", f"{at}{norm} classifier=head"),
        dropped=[f"{at}embeddings.mask_token"],
        constants=[f"{block}.{relative}.relative_position_index"],
    )


# The relative positions come first: they lie next to attention then.
RENAMED = {"attention.attention.relative_position_bias": "relative_position_bias"} | IN_MEMORY
BEIT = ModelType("beit", beit, beit_rules, renamed(beit_rules, RENAMED))
