"""transformers' `efficientformer`, which its version 5 no longer has."""

from __future__ import annotations

from ...components import LayerNorm, NormedHead
from ...encoder import Model
from ...families.efficientformer import attending_blocks, efficientformer, index_rule
from ...keys import KeyRules, Rule, renames
from ...layouts import normed_head_rules
from .config import Config, ModelType, Shapes, prefix, require, several


def read(config: Config, shapes: Shapes) -> Model:
    """An EfficientFormer, with a classifier or, of the class with a teacher, with two."""
    require(config, key_dim=32, attention_ratio=4, num_attention_heads=8, mlp_expansion_ratio=4, pool_size=3)
    require(config, downsamples=(True,) * 4, downsample_patch_size=3, downsample_stride=2, downsample_pad=1)
    require(config, hidden_act="gelu", use_layer_scale=True, batch_norm_eps=1e-5)
    model = efficientformer(
        dims=several(config, "hidden_sizes", 48, 96, 224, 448),
        depths=several(config, "depths", 3, 2, 6, 4),
        attending=config.get("num_meta3d_blocks", 1),
        norm=LayerNorm(eps=config.get("layer_norm_eps", 1e-12)),
    )
    taught = any(key.startswith("distillation_classifier") for key in shapes)
    return model if taught else model.replace(head=NormedHead())


def rules(model: Model) -> KeyRules:
    """The layout of files; there is no other. What is between two stages counts as one."""
    base, attends = prefix(model, "efficientformer"), attending_blocks(model)
    stages, last = f"{base}encoder.intermediate_stages", f"{base}encoder.last_stage"
    pooling = len(model.stages[3].blocks) - attends
    convs = "convolution1=0.conv batchnorm_before=0.norm convolution2=1.conv batchnorm_after=1.norm"
    scales = "layer_scale_1=0.layer_scale layer_scale_2=1.layer_scale"
    found: list[Rule] = renames(f"{base}patch_embed", "stages.0.enter.steps", convs)
    for b in range(attends):  # these first, for all blocks of ours have the same names of their scales
        block, ours = f"{last}.meta3D_layers.blocks.{b}", f"stages.3.blocks.{pooling + b}.branches"
        attend = "attention_biases=bias.table qkv=qkv.linear projection=proj.linear"
        found.append(index_rule(f"{block}.token_mixer.attention_bias_idxs", model))
        found += renames(f"{block}.token_mixer", f"{ours}.0.mixer", attend)
        found += renames(f"{block}.mlp", f"{ours}.1.mixer", "linear_in=fc1 linear_out=fc2")
        found += renames(block, ours, f"layernorm1=0.norm layernorm2=1.norm {scales}")
    for s, place in enumerate([*(f"{stages}.{2 * s}" for s in range(3)), last]):
        block, ours = f"{place}.meta4D_layers.blocks.{{b}}", f"stages.{s}.blocks.{{b}}.branches"
        found += renames(f"{block}.mlp", f"{ours}.1.mixer.steps", convs) + renames(block, ours, scales)
        if s:
            found += renames(f"{stages}.{2 * s - 1}", f"stages.{s}.enter", "projection=conv norm")
    found += renames("", "", f"{base}layernorm=pool.norm")
    return KeyRules(found, normed_head_rules("classifier", "distillation_classifier", layer=""))


EFFICIENTFORMER = ModelType("efficientformer", read, rules)
