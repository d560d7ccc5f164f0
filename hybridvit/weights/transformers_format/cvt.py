"""transformers' `cvt`."""

from __future__ import annotations

from ...components import TokenPool
from ...encoder import Model
from ...families.cvt import cvt
from ...keys import KeyRules, Rule, renames
from .config import Config, ModelType, Shapes, prefix, require, several

THRICE = {"mlp_ratio": 4.0, "kernel_qkv": 3, "padding_kv": 1, "stride_kv": 2, "padding_q": 1, "stride_q": 1}


def read(config: Config, shapes: Shapes) -> Model:
    """A CvT. Its norms do not heed the config's eps. Without a classifier it has no last norm."""
    require(config, **{name: (value,) * 3 for name, value in THRICE.items()})
    require(config, qkv_bias=(True,) * 3, qkv_projection_method=("dw_bn",) * 3, cls_token=(False, False, True))
    require(config, patch_sizes=(7, 3, 3), patch_stride=(4, 2, 2), patch_padding=(2, 1, 1))
    model = cvt(
        dims=several(config, "embed_dim", 64, 192, 384),
        depths=several(config, "depth", 1, 2, 10),
        heads=several(config, "num_heads", 1, 3, 6),
    )
    return model if "layernorm.weight" in shapes else model.replace(pool=TokenPool())


def rules(model: Model) -> KeyRules:
    """The layout, the same in files and in memory."""
    stage = f"{prefix(model, 'cvt')}encoder.stages.{{s}}"
    layer, ours = f"{stage}.layers.{{b}}", "stages.{s}.blocks.{b}.branches"
    found: list[Rule] = renames("", "", "layernorm=pool.norm classifier=head")
    found += renames(stage, "stages.{s}", "cls_token=prefix.tokens")
    embedding = f"{stage}.embedding.convolution_embeddings"
    found += renames(embedding, "stages.{s}.enter", "projection=conv normalization=norm")
    mlp = "layernorm_after=1.norm intermediate.dense=1.mixer.fc1 output.dense=1.mixer.fc2"
    found += renames(layer, ours, f"layernorm_before=0.norm attention.output.dense=0.mixer.proj {mlp}")
    for part in ("query", "key", "value"):
        conv = f"convolution_projection_{part}.convolution_projection"
        parts = f"{conv}.convolution=conv.conv {conv}.normalization=conv.norm projection_{part}=linear"
        found += renames(f"{layer}.attention.attention", f"{ours}.0.mixer.{part}", parts)
    return KeyRules(found)


CVT = ModelType("cvt", read, rules)
