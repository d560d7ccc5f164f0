"""transformers' `levit`."""

from __future__ import annotations

from ...encoder import Model
from ...families.levit import levit
from ...keys import KeyRules, Rename, Rule
from ...layouts import normed_head_rules, normed_rules
from ...limits import shown
from .config import Config, ModelType, Shapes, UnsupportedConfigError, prefix, require, several


def read(config: Config, shapes: Shapes) -> Model:
    """A LeViT, with a classifier or, of the class with a teacher, with two."""
    require(config, kernel_size=3, stride=2, padding=1, patch_size=16)
    require(config, mlp_ratio=(2, 2, 2), attention_ratio=(2, 2, 2))
    dims, widths = several(config, "hidden_sizes", 128, 256, 384), several(config, "key_dim", 16, 16, 16)
    if len(set(widths)) > 1:
        raise UnsupportedConfigError(f"key_dim is {shown(widths)}, and only one for all stages can be built")
    shrinks = (("Subsample", widths[0], dim // widths[0], 4, 2, 2) for dim in dims[:-1])
    given = tuple(tuple(down) for down in config.get("down_ops", ()) if tuple(down) != ("",))
    if given and given != tuple(shrinks):
        raise UnsupportedConfigError(f"down_ops is {shown(given)}, and only the usual can be built")
    return levit(
        dims=dims,
        heads=several(config, "num_attention_heads", 4, 8, 12),
        depths=several(config, "depths", 4, 4, 4),
        key_dim=widths[0],
        act="hard_swish",
        distilled=any(key.startswith("classifier_distill") for key in shapes),
    )


LAYERS = {
    "queries_keys_values": "qkv",
    "keys_values": "key_value",
    "queries": "query",
    "projection": "proj",
    "linear_up": "steps.0",
    "linear_down": "steps.1",
}


def rules(model: Model) -> KeyRules:
    """The layout, the same in files and in memory, in which MLPs and shrinking attention count as layers."""
    base = prefix(model, "levit")
    stem = {f"{base}patch_embeddings.embedding_layer_{step + 1}": f"stages.0.enter.steps.{step}" for step in range(4)}
    found: list[Rule] = normed_rules(stem, "convolution", "batch_norm")
    linear: dict[str, str] = {}
    for s, stage in enumerate(model.stages):
        blocks = [f"stages.{s}.blocks.{b}.branches" for b in range(len(stage.blocks))]
        places = [f"{block}.{branch}.mixer" for block in blocks for branch in (0, 1)]
        layers = [(f"{layer}.module", place) for layer, place in enumerate(places)]
        if s + 1 < len(model.stages):
            enter = f"stages.{s + 1}.enter.steps"
            layers += [(f"{len(places)}", f"{enter}.0"), (f"{len(places) + 1}.module", f"{enter}.1.body")]
        for layer, ours in layers:
            theirs = f"{base}encoder.stages.{s}.layers.{layer}"
            found.append(Rename(f"{theirs}.attention_biases", f"{ours}.bias.table"))
            linear |= {f"{theirs}.{name}": f"{ours}.{place}" for name, place in LAYERS.items()}
    for theirs, ours in linear.items():
        found += [Rename(f"{theirs}.linear", f"{ours}.linear"), Rename(f"{theirs}.batch_norm", f"{ours}.norm")]
    return KeyRules(found, normed_head_rules("classifier", "classifier_distill", norm="batch_norm"))


LEVIT = ModelType("levit", read, rules)
