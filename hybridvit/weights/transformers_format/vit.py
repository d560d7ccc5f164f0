"""transformers' `vit`, `deit`, and `vit-hybrid`, which its version 5 no longer has."""

from __future__ import annotations

from collections.abc import Sequence

from ...components import (
    Attention,
    DistilledHead,
    LayerNorm,
    LinearHead,
    Mlp,
    Patchify,
    TokenPool,
    transformer_block,
)
from ...encoder import Model, Stage
from ...families.vit_hybrid import bit_rules, bit_stages
from ...keys import Concat, KeyRules, Rule, renames
from ...limits import shown
from ...spec import Mixer, Norm, Position
from ...trunks import POSITION, Width, vit_stage
from .config import (
    Config,
    ModelType,
    Shapes,
    UnsupportedConfigError,
    activation,
    prefix,
    query_key_value,
    renamed,
    require,
)


def width(config: Config) -> Width:
    """The numbers of a trunk."""
    dim = config.get("hidden_size", 768)
    hidden = config.get("intermediate_size", 3072)
    return Width(dim, config.get("num_hidden_layers", 12), config.get("num_attention_heads", 12), hidden / dim)


def layer_norm(config: Config, eps: float = 1e-12) -> Norm:
    """The norm of a config; `eps` is the type's usual one."""
    return LayerNorm(eps=config.get("layer_norm_eps", eps))


def trunk(
    config: Config,
    norm: Norm,
    *,
    of: Width | None = None,
    tokens: int = 1,
    patch: int = 16,
    position: Position = POSITION,
    attention: Attention | None = None,
    mlp: Mixer | None = None,
    layer_scale: float | None = None,
) -> Stage:
    """The stage that is a ViT, with as many prefix `tokens`; `patch` is the type's usual one."""
    of = of or width(config)
    sides = config.get("patch_size", patch)
    side, *others = sides if isinstance(sides, list | tuple) else (sides,)
    if any(other != side for other in others):
        raise UnsupportedConfigError(f"patch_size is {shown(sides)}, and only square patches can be built")
    attention = attention or Attention(heads=of.heads, qkv_bias=config.get("qkv_bias", True))
    block = transformer_block(attention, mlp or Mlp(hidden=of.hidden, act=activation(config)), norm, layer_scale)
    return vit_stage(enter=Patchify(dim=of.dim, patch=side), width=of, prefix=tokens, position=position, block=block)


def vit(config: Config, shapes: Shapes) -> Model:
    """A `vit`, which has a class token."""
    norm = layer_norm(config)
    return Model(stages=(trunk(config, norm),), pool=TokenPool(norm=norm), head=LinearHead())


def deit(config: Config, shapes: Shapes) -> Model:
    """Every `deit` has a distillation token, but only one with a teacher classifies it."""
    distilled, norm = "cls_classifier.weight" in shapes, layer_norm(config)
    pool = TokenPool(norm=norm, tokens=1 + distilled)
    return Model(
        stages=(trunk(config, norm, tokens=2),), pool=pool, head=DistilledHead() if distilled else LinearHead()
    )


def vit_hybrid(config: Config, shapes: Shapes) -> Model:
    """A `vit-hybrid`: BiT's ResNet, and a ViT on its last map."""
    backbone, norm = config.get("backbone_config") or {}, layer_norm(config)
    depths = tuple(backbone.get("depths", (3, 4, 9)))
    # Files have "SAME", and those of older versions the widths of BiT's four stages, though there are three.
    padding, dims = backbone.get("global_padding", "same"), (256, 512, 1024, 2048)
    backbone = {**backbone, "global_padding": padding and padding.lower()}
    backbone["hidden_sizes"] = tuple(backbone.get("hidden_sizes", dims))[: len(depths)]
    require(backbone, model_type="bit", layer_type="bottleneck", global_padding="same", embedding_dynamic_padding=True)
    require(backbone, embedding_size=64, num_groups=32, width_factor=1, hidden_act="relu")
    require(backbone, out_features=(f"stage{len(depths)}",), hidden_sizes=dims[: len(depths)])
    stages = (*bit_stages(*depths), trunk(config, norm, patch=1))
    return Model(stages=stages, pool=TokenPool(norm=norm), head=LinearHead())


def vit_rules(
    model: Model,
    base: str = "vit",
    tokens: Sequence[str] = ("cls_token",),
    classifiers: str = "classifier=head",
    backbone: Sequence[Rule] = (),
) -> KeyRules:
    """The layout of a model whose last stage is a ViT.

    `classifiers` are their names and ours, `backbone` names the stages before the last. The pooler, a layer on the
    class token that no classifier uses, is dropped.
    """
    at, stage = prefix(model, base), f"stages.{len(model.stages) - 1}"
    block, ours, parts = f"{at}encoder.layer.{{b}}", f"{stage}.blocks.{{b}}.branches", f"{at}embeddings"
    norms = "layernorm_before=0.norm attention.output.dense=0.mixer.proj layernorm_after=1.norm"
    return KeyRules(
        backbone,
        Concat([f"{parts}.{token}" for token in tokens], f"{stage}.prefix.tokens", dim=1),
        renames(parts, stage, "position_embeddings=position.table patch_embeddings.projection=enter.conv"),
        query_key_value(f"{block}.attention.attention", f"{ours}.0.mixer"),
        renames(block, ours, f"{norms} intermediate.dense=1.mixer.fc1 output.dense=1.mixer.fc2"),
        renames("", "", f"{at}layernorm=pool.norm {classifiers}"),
        dropped=[f"{at}pooler"],
    )


def deit_rules(model: Model) -> KeyRules:
    """`deit`, or `vit` if there is no distillation token, as which transformers releases those."""
    if model.stages[0].prefix == 1:
        return vit_rules(model)
    twice = "cls_classifier=head.class_token distillation_classifier=head.distillation_token"
    classifiers = twice if model.head == DistilledHead() else "classifier=head"
    return vit_rules(model, "deit", ("cls_token", "distillation_token"), classifiers)


def vit_hybrid_rules(model: Model) -> KeyRules:
    """The layout of files; there is no other."""
    bit = f"{prefix(model, 'vit')}embeddings.patch_embeddings.backbone.bit"
    stem = f"{bit}.embedder.convolution", f"{bit}.embedder.norm"
    return vit_rules(model, backbone=bit_rules(*stem, f"{bit}.encoder.stages.{{s}}.layers"))


# The parts of attention, and of a block.
ATTENTION_IN_MEMORY = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
IN_MEMORY = ATTENTION_IN_MEMORY | {
    "encoder.layer.": "layers.",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
VIT = ModelType("vit", vit, vit_rules, renamed(vit_rules, IN_MEMORY))
DEIT = ModelType("deit", deit, deit_rules, renamed(deit_rules, IN_MEMORY))
VIT_HYBRID = ModelType("vit_hybrid", vit_hybrid, vit_hybrid_rules)
