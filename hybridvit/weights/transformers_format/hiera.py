"""transformers' `hiera`."""

from __future__ import annotations

import re

from ...encoder import Model
from ...families.hiera import hiera, timm_rules
from ...keys import KeyRules, respelled
from ...limits import shown
from .config import Config, ModelType, Shapes, UnsupportedConfigError, prefix, require, several


def read(config: Config, shapes: Shapes) -> Model:
    """A Hiera with one table of positions."""
    require(config, patch_size=(7, 7), patch_stride=(4, 4), patch_padding=(3, 3), mlp_ratio=4, embed_dim_multiplier=2)
    require(config, num_query_pool=3, query_stride=(2, 2), masked_unit_size=(8, 8), hidden_act="gelu")
    require(config, masked_unit_attention=(True, True, False, False), layer_norm_eps=1e-6)
    heads = several(config, "num_heads", 1, 2, 4, 8)
    if heads != tuple(heads[0] << stage for stage in range(4)):
        raise UnsupportedConfigError(
            f"num_heads is {shown(heads)}, and only twice as many in each next stage can be built"
        )
    return hiera(dim=config.get("embed_dim", 96), depths=several(config, "depths", 2, 3, 16, 3), heads=heads[0])


PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "pos_embed": "embeddings.position_embeddings",
    "head.norm": "pooler.layernorm",
}


def rules(model: Model) -> KeyRules:
    """The layout, the same in files and in memory: that of timm by other names, with blocks counted by stage."""
    at = prefix(model, "hiera")
    blocks = [
        f"encoder.stages.{s}.layers.{b}" for s, stage in enumerate(model.stages) for b in range(len(stage.blocks))
    ]

    def spell(name: str) -> str:
        name = re.sub(r"^blocks\.(\d+)", lambda found: blocks[int(found[1])], name)
        for timms, theirs in PARTS.items():
            name = name.replace(timms, theirs)
        return "classifier" if name == "head.fc" else at + name

    return respelled(timm_rules(model), spell)


HIERA = ModelType("hiera", read, rules)
