"""transformers' `swiftformer`."""

from __future__ import annotations

import re

from ...components import MeanPool
from ...encoder import Model
from ...families.swiftformer import swiftformer, timm_rules
from ...keys import KeyRules, respelled
from .config import Config, ModelType, Shapes, prefix, require, several


def read(config: Config, shapes: Shapes) -> Model:
    """A SwiftFormer as it was first released, in March 2023: queries are summed up as they are.

    Its attention took the softmax of every score by itself, which is 1 (github.com/Amshaker/SwiftFormer, issues 2 and
    4). transformers has that network and its weights. In July 2023 the authors replaced both, by those that timm has.
    """
    require(config, mlp_ratio=4, hidden_act="gelu", use_layer_scale=True, batch_norm_eps=1e-5)
    require(config, downsamples=(True,) * 4, down_patch_size=3, down_stride=2, down_pad=1)
    model = swiftformer(
        dims=several(config, "embed_dims", 48, 56, 112, 220),
        depths=several(config, "depths", 3, 3, 6, 4),
        scored=False,
    )
    return model if "norm.weight" in shapes else model.replace(pool=MeanPool())


def rules(model: Model) -> KeyRules:
    """The layout, which counts what is between two stages as a stage. Scores, which change nothing, are dropped."""
    at = prefix(model, "swiftformer")

    def spell(name: str) -> str:
        name = re.sub(r"^stages\.(\d)\.blocks", lambda found: f"encoder.network.{2 * int(found[1])}.blocks", name)
        name = re.sub(r"^stages\.(\d)\.downsample", lambda found: f"encoder.network.{2 * int(found[1]) - 1}", name)
        for ours, theirs in (("dwconv", "depth_wise_conv"), ("pwconv", "point_wise_conv"), (".gamma", "")):
            name = name.replace(ours, theirs)
        name = name.replace("stem", "patch_embed.patch_embedding").replace("head_dist", "dist_head")
        return at + name if "." in name else name

    found = respelled(timm_rules(model), spell)
    return KeyRules(found.rules, dropped=[f"{at}encoder.network.{{s}}.blocks.{{b}}.attn.w_g"])


SWIFTFORMER = ModelType("swiftformer", read, rules)
