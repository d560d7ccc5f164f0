"""transformers' `mobilevit` and `mobilevitv2`. Apple's weights see blue, green and red, in this order."""

from __future__ import annotations

from ...encoder import Model
from ...families.mobilevit import BODY, FUSED, LAYER, STEM, first_residual, mobilevit
from ...families.mobilevitv2 import DEPTHS, mobilevitv2
from ...keys import KeyRules, Rule, conv_to_linear, renames
from ...layouts import normed_rules
from ...limits import shown
from .config import Config, ModelType, Shapes, UnsupportedConfigError, prefix, query_key_value, require, several


def read_mobilevit(config: Config, shapes: Shapes) -> Model:
    """A MobileViT."""
    require(config, num_attention_heads=4, mlp_ratio=2, patch_size=2, conv_kernel_size=3, output_stride=32)
    require(config, hidden_act="silu", qkv_bias=True, layer_norm_eps=1e-5)
    stem, *dims, last = several(config, "neck_hidden_sizes", 16, 32, 64, 96, 128, 160, 640)
    expand = config.get("expand_ratio", 4.0)
    if stem != STEM or expand != int(expand) or any(dim * expand % 8 for dim in dims):
        raise UnsupportedConfigError(
            f"neck_hidden_sizes start with {stem} and expand_ratio is {expand}: only {STEM}, and a whole ratio that "
            "makes multiples of 8 of all widths, can be built"
        )
    inner = several(config, "hidden_sizes", 144, 192, 240)
    return mobilevit(dims=tuple(dims), inner=inner, last=last, expand=int(expand))


def read_mobilevitv2(config: Config, shapes: Shapes) -> Model:
    """A MobileViTv2."""
    require(config, patch_size=2, conv_kernel_size=3, output_stride=32, expand_ratio=2, ffn_multiplier=2)
    require(config, layer_norm_eps=1e-5, base_attn_unit_dims=(128, 192, 256), n_attn_blocks=DEPTHS)
    width = config.get("width_multiplier", 1.0)
    if config.get("hidden_act", "silu") not in ("silu", "swish") or not 0.5 <= width <= 2 or width * 4 % 1:
        raise UnsupportedConfigError(
            f"hidden_act is {shown(config.get('hidden_act'))} and width_multiplier {width}: only 'silu' and quarters "
            "from 0.5 to 2 can be built"
        )
    return mobilevitv2(width=width)


def residual(theirs: str, ours: str) -> dict[str, str]:
    """The convolutions of an inverted residual, theirs -> ours."""
    names = ("expand_1x1", "conv_3x3", "reduce_1x1")
    return {f"{theirs}.{name}": f"{ours}.steps.{step}" for step, name in enumerate(names)}


def ends(model: Model, base: str) -> dict[str, str]:
    """The convolutions at both ends of either version, theirs -> ours."""
    layer = f"{base}encoder.layer"
    return {
        f"{base}conv_stem": "stages.0.enter",
        f"{base}conv_1x1_exp": "pool.before",
        **residual(f"{layer}.0.layer.0", first_residual(model)),
        **residual(f"{layer}.1.layer.0", "stages.2.enter"),
        **residual(f"{layer}.1.layer.{{b+1}}", "stages.2.blocks.{b}.branches.0.mixer"),
    }


def mobilevit_rules(model: Model) -> KeyRules:
    """The layout of `mobilevit`, the same in files and in memory."""
    base = prefix(model, "mobilevit")
    unit = f"{base}encoder.layer.{{s}}"
    layer = f"{unit}.transformer.layer.{{b}}"
    convs = ends(model, base) | residual(f"{unit}.downsampling_layer", "stages.{s+1}.enter")
    convs |= {f"{unit}.conv_kxk": f"{BODY}.0", f"{unit}.conv_projection": f"{BODY}.3", f"{unit}.fusion": f"{FUSED}.1"}
    attend = "layernorm_before=0.norm attention.output.dense=0.mixer.proj"
    mlp = "layernorm_after=1.norm intermediate.dense=1.mixer.fc1 output.dense=1.mixer.fc2"
    return KeyRules(
        normed_rules(convs, "convolution", "normalization"),
        query_key_value(f"{layer}.attention.attention", f"{LAYER}.0.mixer"),
        renames(layer, LAYER, f"{attend} {mlp}"),
        renames(unit, BODY, "conv_1x1.convolution=1.conv layernorm=2.norm"),
        renames("", "", "classifier=head"),
    )


def mobilevitv2_rules(model: Model) -> KeyRules:
    """The layout of `mobilevitv2`, the same in files and in memory."""
    base = prefix(model, "mobilevitv2")
    convs, found = ends(model, base), list[Rule]()
    for s in range(2, 2 + len(DEPTHS)):
        unit, ours, end = f"{base}encoder.layer.{s}", f"stages.{2 * s - 1}", f"stages.{2 * s}.enter.steps"
        layer, branches = f"{unit}.transformer.layer.{{b}}", f"{ours}.blocks.{{b}}.branches"
        convs |= residual(f"{unit}.downsampling_layer", f"{ours}.enter")
        convs |= {f"{unit}.conv_kxk": f"{ours}.enter.steps.4", f"{unit}.conv_projection": f"{end}.1"}
        found += renames(unit, "", f"conv_1x1.convolution={ours}.enter.steps.5.conv layernorm={end}.0.norm")
        found += renames(layer, branches, "layernorm_before=0.norm layernorm_after=1.norm")
        attend = "attention.qkv_proj.convolution=0.mixer.qkv attention.out_proj.convolution=0.mixer.proj"
        mlp = "ffn.conv1.convolution=1.mixer.fc1 ffn.conv2.convolution=1.mixer.fc2"
        found += renames(layer, branches, f"{attend} {mlp}", conv_to_linear)
    found += renames("", "", "classifier=head")
    return KeyRules(normed_rules(convs, "convolution", "normalization"), found)


MOBILEVIT = ModelType("mobilevit", read_mobilevit, mobilevit_rules)
MOBILEVITV2 = ModelType("mobilevitv2", read_mobilevitv2, mobilevitv2_rules)
