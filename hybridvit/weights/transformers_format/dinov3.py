"""transformers' `dinov3_vit`."""

from __future__ import annotations

from ...components import CentredRotary, GatedMlp, LinearHead, Mlp, NoPosition, RotaryAttention, TokenPool
from ...encoder import Model
from ...keys import Concat, KeyRules, Rename, renames
from .config import Config, ModelType, Shapes, activation, renamed, require
from .vit import layer_norm, trunk, width

PLAIN, GATED = "up_proj=fc1 down_proj=fc2", "gate_proj=gate up_proj=value down_proj=proj"


def dinov3(config: Config, shapes: Shapes) -> Model:
    """A DINOv3, which gives its class token: there is no class with a classifier."""
    require(config, proj_bias=True, mlp_bias=True)
    biased = config.get("query_bias", True)
    require(config, value_bias=biased)
    usual = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
    of, norm, act = width({**usual, **config}), layer_norm(config, 1e-5), activation(config)
    rotary = CentredRotary(temperature=config.get("rope_theta", 100.0))
    attention = RotaryAttention(
        heads=of.heads, qkv_bias=biased, key_bias=not biased or config.get("key_bias", False), rotary=rotary
    )
    stage = trunk(
        config,
        norm,
        of=of,
        tokens=1 + config.get("num_register_tokens", 0),
        position=NoPosition(),
        attention=attention,
        mlp=GatedMlp(hidden=of.hidden, act=act) if config.get("use_gated_mlp") else Mlp(hidden=of.hidden, act=act),
        layer_scale=1e-5,
    )
    return Model(stages=(stage,), pool=TokenPool(norm=norm), head=LinearHead())


def rules(model: Model) -> KeyRules:
    """The layout of files. What stands for masked patches while training is dropped."""
    stage = model.stages[0]
    block, ours = "layer.{b}", "stages.0.blocks.{b}.branches"
    attention, mlp = (branch.mixer for branch in stage.blocks[0].branches)
    qkv = [f"{block}.attention.{part}_proj" for part in "qkv"]
    biased = qkv if isinstance(attention, RotaryAttention) and attention.key_bias else [qkv[0], qkv[2]]
    registers = stage.prefix - 1
    tokens = [f"embeddings.{token}" for token in ("cls_token", "register_tokens")]
    parts = "norm1=0.norm attention.o_proj=0.mixer.proj layer_scale1.lambda1=0.layer_scale"
    return KeyRules(
        Concat(tokens, "stages.0.prefix.tokens", dim=1, sizes=(1, registers)),
        Rename("embeddings.patch_embeddings", "stages.0.enter.conv"),
        Concat([f"{part}.weight" for part in qkv], f"{ours}.0.mixer.qkv.weight"),
        Concat([f"{part}.bias" for part in biased], f"{ours}.0.mixer.qkv.bias"),
        renames(block, ours, f"{parts} norm2=1.norm layer_scale2.lambda1=1.layer_scale"),
        renames(f"{block}.mlp", f"{ours}.1.mixer", GATED if isinstance(mlp, GatedMlp) else PLAIN),
        Rename("norm", "pool.norm"),
        dropped=["embeddings.mask_token"],
    )


DINOV3 = ModelType("dinov3", dinov3, rules, renamed(rules, {"layer.": "model.layer."}))
