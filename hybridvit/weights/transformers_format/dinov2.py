"""transformers' `dinov2` and `dinov2_with_registers`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ...components import GatedMlp, LinearHead, Mlp, TokenPool
from ...encoder import Model
from ...families.dinov2 import TokenAndMeanPool
from ...keys import Concat, KeyRules, Rename, Rule, Split, renames
from ...trunks import Width
from .config import Config, ModelType, Shapes, activation, prefix, query_key_value, renamed
from .vit import ATTENTION_IN_MEMORY, layer_norm, trunk, width


def dinov2(config: Config, shapes: Shapes) -> Model:
    """A DINOv2. Without a classifier it gives its class token; a classifier reads the mean of the patches too."""
    norm, plain = layer_norm(config, 1e-6), width(config)
    hidden = int(plain.dim * config.get("mlp_ratio", 4))
    gated = bool(config.get("use_swiglu_ffn"))
    if gated:
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
    registers = config.get("num_register_tokens", 4) if config["model_type"] == "dinov2_with_registers" else 0
    stage = trunk(
        config,
        norm,
        of=Width(plain.dim, plain.depth, plain.heads),
        tokens=1 + registers,
        patch=16 if registers else 14,
        mlp=GatedMlp(hidden=hidden) if gated else Mlp(hidden=hidden, act=activation(config)),
        layer_scale=1e-5,
    )
    pool = TokenAndMeanPool(norm=norm) if "classifier.weight" in shapes else TokenPool(norm=norm)
    return Model(stages=(stage,), pool=pool, head=LinearHead())


BLOCK = "stages.0.blocks.{b}.branches"
GATED_IN_MEMORY = "gate_proj=gate up_proj=value down_proj=proj"


def _packed_rules(model: Model, theirs: str) -> list[Rule]:
    """The two layers of a gated MLP: theirs makes gates and values at once, one after another."""
    if model.stages[0].blocks[0].branches[1].mixer.kind != GatedMlp.kind:
        return []
    ours = f"{BLOCK}.1.mixer"
    first = Split(f"{theirs}.weights_in", (f"{ours}.gate", f"{ours}.value"))
    return [first, Rename(f"{theirs}.weights_out", f"{ours}.proj")]


def _table_rule(theirs: str, ours: str, registers: int) -> Rename:
    """Positions of class token and patches. Ours has rows for the registers between them, which are 0 on entry."""

    def to_ours(table: Tensor) -> Tensor:
        zeros = table.new_zeros(1, registers, table.shape[2])
        return torch.cat([table[:, :1], zeros, table[:, 1:]], dim=1)

    def to_theirs(table: Tensor) -> Tensor:
        return torch.cat([table[:, :1], table[:, 1 + registers :]], dim=1)

    return Rename(theirs, ours, to_ours, to_theirs)


def dinov2_rules(model: Model, packed: bool = True) -> KeyRules:
    """The layout of files, in which the first two layers of a gated MLP are one, `packed`.

    What stands for masked patches while training is dropped. The models with registers of the zoo do not fit: there, as
    in timm, the position of the class token is a part of it.
    """
    registers = model.stages[0].prefix - 1
    at = prefix(model, "dinov2_with_registers" if registers else "dinov2")
    embeddings, block = f"{at}embeddings", f"{at}encoder.layer.{{b}}"
    table = f"{embeddings}.position_embeddings", "stages.0.position.table"
    tokens, sizes = ([f"{embeddings}.cls_token", f"{embeddings}.register_tokens"], (1, registers))
    prefix_rule: Rule = Rename(tokens[0], "stages.0.prefix.tokens")
    if registers:
        prefix_rule = Concat(tokens, "stages.0.prefix.tokens", dim=1, sizes=sizes)
    gated = _packed_rules(model, f"{block}.mlp")
    parts = "norm1=0.norm attention.output.dense=0.mixer.proj layer_scale1.lambda1=0.layer_scale norm2=1.norm"
    return KeyRules(
        gated if packed else renames(f"{block}.mlp", f"{BLOCK}.1.mixer", GATED_IN_MEMORY),
        prefix_rule,
        _table_rule(*table, registers) if registers else Rename(*table),
        query_key_value(f"{block}.attention.attention", f"{BLOCK}.0.mixer"),
        renames(block, BLOCK, f"{parts} mlp=1.mixer layer_scale2.lambda1=1.layer_scale"),
        renames("", "", f"{at}layernorm=pool.norm classifier=head"),
        Rename(f"{embeddings}.patch_embeddings.projection", "stages.0.enter.conv"),
        dropped=[f"{embeddings}.mask_token"],
    )


IN_MEMORY = renamed(partial(dinov2_rules, packed=False), ATTENTION_IN_MEMORY)
DINOV2 = ModelType("dinov2", dinov2, dinov2_rules, IN_MEMORY)
