"""torchvision's layouts: state dicts of its `vit_*`, `swin_*`, `swin_v2_*` and `maxvit_t`.

They come as files without a config: a user names the architecture, and the names in the file tell the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..components import Steps
from ..encoder import Model, Stage
from ..families.swin import ATTENTION, OURS
from ..families.swinv2 import QKV
from ..keys import KeyRules, Place, Rename, Rule, Split, conv_to_linear, linear_to_conv, renames
from ..spec import Transition


def vit_rules(model: Model) -> KeyRules:
    """A ViT with a class token, on patches or on a stem, whose convolutions are numbered through.

    Old files number the layers of the MLP in another way.
    """
    *stem, _ = model.stages
    trunk = f"stages.{len(stem)}"
    block, ours = "encoder.layers.encoder_layer_{b}", f"{trunk}.blocks.{{b}}.branches"
    attention = "in_proj_weight=qkv.weight in_proj_bias=qkv.bias out_proj=proj"
    stages = [(number, step) for number, stage in enumerate(stem) for step in range(len(_steps(stage)))]
    return KeyRules(
        *(
            renames(f"conv_proj.conv_bn_relu_{count}", f"stages.{number}.enter.steps.{step}", "0=conv 1=norm")
            for count, (number, step) in enumerate(stages)
        ),
        renames("", trunk, f"conv_proj{'.conv_last' * bool(stem)}=enter.conv class_token=prefix.tokens"),
        renames("encoder", trunk, "pos_embedding=position.table"),
        renames("", "", "encoder.ln=pool.norm heads.head=head"),
        renames(f"{block}.self_attention", f"{ours}.0.mixer", attention),
        renames(block, ours, "ln_1=0.norm ln_2=1.norm mlp.0=1.mixer.fc1 mlp.3=1.mixer.fc2"),
        renames(block, ours, "mlp.linear_1=1.mixer.fc1 mlp.linear_2=1.mixer.fc2"),
    )


def _steps(stage: Stage) -> Sequence[Transition]:
    assert isinstance(stage.enter, Steps)
    return stage.enter.steps


def _swin_rules(model: Model, enter: str, attention: list[Rule], norm: str) -> KeyRules:
    """What both versions have; `enter` names the parts between two stages. What follows from windows is dropped."""
    rules: list[Rule] = [*renames("", "", "norm=pool.norm head"), *attention]
    rules += renames("features.0", "stages.0.enter", "0=conv 2=norm")
    for s in range(len(model.stages)):
        block, ours = f"features.{2 * s + 1}.{{b}}", OURS.replace("{s}", str(s))
        rules += renames(block, ours, f"norm1=0.{norm} norm2=1.{norm} mlp.0=1.mixer.fc1 mlp.3=1.mixer.fc2")
        if s:
            rules += renames(f"features.{2 * s}", f"stages.{s}.enter", enter)
    constants = ("relative_position_index", "relative_coords_table")
    return KeyRules(rules, constants=[f"features.{{s}}.{{b}}.attn.{name}" for name in constants])


def _attentions(model: Model) -> list[tuple[str, str]]:
    return [(f"features.{2 * s + 1}.{{b}}.attn", ATTENTION.replace("{s}", str(s))) for s in range(len(model.stages))]


def swin_rules(model: Model) -> KeyRules:
    """A Swin."""
    parts = "relative_position_bias_table=bias.table qkv proj"
    attention = [rule for places in _attentions(model) for rule in renames(*places, parts)]
    return _swin_rules(model, "reduction norm", attention, "norm")


class _KeylessBias:
    """A bias of queries, keys and values, of which that of the keys is 0 there and none here."""

    def __init__(self, theirs: str, ours: list[str]) -> None:
        self.theirs, self.ours = (Place(theirs),), tuple(map(Place, ours))

    def convert(self, tensors: list[Tensor], to_ours: bool) -> list[Tensor]:
        if to_ours:
            query, _, value = tensors[0].chunk(3)
            return [query.contiguous(), value.contiguous()]
        query, value = tensors
        return [torch.cat([query, torch.zeros_like(query), value])]


def swinv2_rules(model: Model) -> KeyRules:
    """A SwinV2. A bias of keys, which torchvision sets to 0 whenever it runs, is lost."""
    attention: list[Rule] = []
    for theirs, ours in _attentions(model):
        query, key, value = (part.replace(ATTENTION, ours) for part in QKV)
        attention.append(_KeylessBias(f"{theirs}.qkv.bias", [f"{query}.bias", f"{value}.bias"]))
        attention.append(Split(f"{theirs}.qkv.weight", [f"{part}.weight" for part in (query, key, value)]))
        attention += renames(theirs, ours, "logit_scale=log_factor cpb_mlp.0=bias.fc1 cpb_mlp.2=bias.fc2 proj")
    return _swin_rules(model, "reduction=steps.0.reduction norm=steps.1.norm", attention, "post_norm")


CONVS = "pre_norm=0.norm conv_a.0=2.conv conv_a.1=2.norm conv_b.0=3.conv conv_b.1=5.norm conv_c=7.conv"


def maxvit_rules(model: Model) -> KeyRules:
    """A `maxvit_t`, the convolution of whose first block in a stage is our entrance."""
    first, others = "blocks.{s}.layers.0.layers", "blocks.{s}.layers.{b+1}.layers"
    our_first, our_others = "stages.{s+1}.blocks.0.branches", "stages.{s+1}.blocks.{b+1}.branches"
    rules: list[Rule] = renames("stem", "stages.0.enter.steps", "0.0=0.conv 0.1=0.norm 1.0=1.conv")
    rules += renames("classifier", "", "2=pool.post_norm 5=head")
    rules += renames("classifier", "pool", "3=after.conv", linear_to_conv)
    rules += renames(f"{first}.MBconv.proj", "stages.{s+1}.enter.shortcut.steps", "1=1.conv")
    for theirs, ours in ((first, "stages.{s+1}.enter.body.steps"), (others, f"{our_others}.0.mixer.steps")):
        excite = f"{theirs}.MBconv.layers.squeeze_excitation", f"{ours}.6"
        rules += renames(f"{theirs}.MBconv.layers", ours, CONVS)
        rules += renames(*excite, "fc1=reduce fc2=expand", conv_to_linear)
    for index, name in enumerate(("window_attention", "grid_attention")):
        for place, ours, branch in ((first, our_first, 2 * index), (others, our_others, 2 * index + 1)):
            theirs, mlp = f"{place}.{name}", f"{ours}.{branch + 1}"
            attention = "to_qkv=qkv merge=proj relative_position_bias_table=bias.table"
            rules += renames(f"{theirs}.attn_layer.1", f"{ours}.{branch}.mixer.attention", attention)
            rules.append(Rename(f"{theirs}.attn_layer.0", f"{ours}.{branch}.norm"))
            rules += renames(f"{theirs}.mlp_layer", mlp, "0=norm 1=mixer.fc1 3=mixer.fc2")
    index = "attn_layer.1.relative_position_index"
    attentions = (f"blocks.{{s}}.layers.{{b}}.layers.{kind}_attention" for kind in ("window", "grid"))
    return KeyRules(rules, constants=[f"{attention}.{index}" for attention in attentions])


# The layout of each family's models.
LAYOUTS: dict[str, Callable[[Model], KeyRules]] = {
    "vit": vit_rules,
    "vit_c": vit_rules,
    "swin": swin_rules,
    "swinv2": swinv2_rules,
    "maxvit_torchvision": maxvit_rules,
}


def torchvision_layouts(family: str) -> dict[str, Callable[[Model], KeyRules]]:
    """torchvision's layout of the models of a family, by name, if it has them."""
    return {"torchvision": LAYOUTS[family]} if family in LAYOUTS else {}
