"""Key rules that families share: what other packages call the parts of a ViT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .components.attention import Attention
from .components.mixers import GatedMlp
from .components.transitions import Normalize
from .encoder import Model
from .keys import Concat, KeyRules, Rename, Rule, Split, conv_to_linear
from .spec import Grid


def trunk_rules(stage: int = 0, first_block: int = 0, norm: str = "norm") -> list[Rule]:
    """timm's names of the blocks of a ViT, for a stage of ours whose transformer blocks start at `first_block`.

    `norm` is "post_norm" if norms are behind attention and MLP.
    """
    block = f"stages.{stage}.blocks.{{b+{first_block}}}"
    return [
        Rename("pos_embed", f"stages.{stage}.position.table"),
        *([Rename("norm_pre", f"stages.{stage}.blocks.0.branches.0.mixer.norm")] if first_block else []),
        Rename("blocks.{b}.norm1", f"{block}.branches.0.{norm}"),
        Rename("blocks.{b}.attn", f"{block}.branches.0.mixer"),
        Rename("blocks.{b}.ls1.gamma", f"{block}.branches.0.layer_scale"),
        Rename("blocks.{b}.norm2", f"{block}.branches.1.{norm}"),
        Rename("blocks.{b}.mlp", f"{block}.branches.1.mixer"),
        Rename("blocks.{b}.ls2.gamma", f"{block}.branches.1.layer_scale"),
    ]


HEAD_RULES: list[Rule] = [
    Rename("norm", "pool.norm"),
    Rename("fc_norm", "pool.post_norm"),
    Rename("attn_pool.latent", "pool.latent"),
    Rename("attn_pool.q", "pool.query"),
    Rename("attn_pool.kv", "pool.key_value"),
    Rename("attn_pool.proj", "pool.proj"),
    Rename("attn_pool.norm", "pool.mlp_norm"),
    Rename("attn_pool.mlp", "pool.mlp"),
    Rename("head", "head"),
]


def _first_block(model: Model) -> int:
    """The first block that transforms: before it there may be one with a norm alone."""
    return int(model.stages[0].blocks[0].branches[0].mixer.kind == Normalize.kind)


def timm_vit_rules(
    model: Model, class_token: bool = True, first: Sequence[Rule] = (), dropped: Sequence[str] = ()
) -> KeyRules:
    """timm's layout of a model of one stage: class token and registers apart. `first` are rules that decide first."""
    stage, first_block = model.stages[0], _first_block(model)
    norm = "post_norm" if stage.blocks[-1].branches[0].post_norm else "norm"
    registers = stage.prefix - class_token
    tokens = ("cls_token",) * class_token + ("reg_token",) * (registers > 0)
    return KeyRules(
        [
            *first,
            Rename("patch_embed.proj", "stages.0.enter.conv"),
            Concat(tokens, "stages.0.prefix.tokens", dim=1, sizes=(1, registers) if len(tokens) == 2 else None),
            *trunk_rules(first_block=first_block, norm=norm),
            *HEAD_RULES,
        ],
        dropped,
    )


def timm_eva_rules(model: Model, class_token: bool = True, first: Sequence[Rule] = ()) -> KeyRules:
    """timm's layout of BEiT, EVA and those after them: a ViT with other names of layer scales and of biases.

    Queries and values alone have a bias, unless the model says otherwise. EVA-02 has three layers where others have
    `qkv`, and two layers of a gated MLP are one if the MLP has no norm.
    """
    attention, mlp = (branch.mixer for branch in model.stages[0].blocks[-1].branches)
    theirs, block = "blocks.{b}", f"stages.0.blocks.{{b+{_first_block(model)}}}.branches"
    rules: list[Rule] = [
        Rename(f"{theirs}.gamma_1", f"{block}.0.layer_scale"),
        Rename(f"{theirs}.gamma_2", f"{block}.1.layer_scale"),
    ]
    keyless = isinstance(attention, Attention) and attention.qkv_bias and not attention.key_bias
    if isinstance(mlp, GatedMlp) and mlp.norm:
        parts = [f"{theirs}.attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]
        rules.append(Concat([f"{part}.weight" for part in parts], f"{block}.0.mixer.qkv.weight"))
        rules.append(Concat([f"{parts[0]}.bias", f"{parts[2]}.bias"], f"{block}.0.mixer.qkv.bias"))
    elif keyless:
        biases = [f"{theirs}.attn.{name}" for name in ("q_bias", "v_bias")]
        rules.append(Concat(biases, f"{block}.0.mixer.qkv.bias"))
    return timm_vit_rules(model, class_token, [*first, *rules])


def gated_rules(model: Model, packed: bool) -> list[Rule]:
    """timm's names of a gated MLP, whose first two layers may be one, `packed`."""
    theirs, ours = "blocks.{b}.mlp", f"stages.0.blocks.{{b+{_first_block(model)}}}.branches.1.mixer"
    gates = [f"{ours}.gate", f"{ours}.value"]
    first: list[Rule] = [Split(f"{theirs}.fc1", gates)] if packed else []
    return [
        *first,
        Rename(f"{theirs}.fc1_g", gates[0]),
        Rename(f"{theirs}.fc1_x", gates[1]),
        Rename(f"{theirs}.fc2", f"{ours}.proj"),
    ]


def normed_head_rules(*heads: str, norm: str = "bn", layer: str = "linear") -> list[Rule]:
    """The names of classifiers that are a norm and a linear layer each; without a `layer`, the linear layer alone."""
    rules: list[Rule] = []
    for index, head in enumerate(heads):
        linear = f"{head}.{layer}" if layer else head
        rules += [Rename(f"{head}.{norm}", f"head.norms.{index}"), Rename(linear, f"head.linears.{index}")]
    return rules


def map_to_table(theirs: str, ours: str, grid: Grid) -> Rename:
    """Positions of theirs are a map (1, C, H, W), of ours a table (1, H * W, C)."""

    def to_theirs(table: Tensor) -> Tensor:
        return table.unflatten(1, grid.size).permute(0, 3, 1, 2).contiguous()

    return Rename(theirs, ours, lambda map_: map_.flatten(2).transpose(1, 2).contiguous(), to_theirs)


def map_to_vector(theirs: str, ours: str, batch: tuple[int, ...] = ()) -> Rename:
    """A factor a channel of theirs is a map (C, 1, 1), or (1, C, 1, 1) if `batch` is (1,), of ours a vector (C)."""
    return Rename(theirs, ours, lambda map_: map_.flatten(), lambda vector: vector.reshape(*batch, -1, 1, 1))


def normed_rules(places: Mapping[str, str], conv: str = "c", norm: str = "bn", linear: bool = False) -> list[Rule]:
    """The names of convolutions with a norm, theirs -> ours. `linear`: ours are linear layers."""
    rules: list[Rule] = []
    for theirs, ours in places.items():
        layer = f"{theirs}.{conv}"
        rules.append(conv_to_linear(layer, f"{ours}.linear") if linear else Rename(layer, f"{ours}.conv"))
        rules.append(Rename(f"{theirs}.{norm}", f"{ours}.norm"))
    return rules


def excite_rules(theirs: str, ours: str, names: tuple[str, str] = ("fc1", "fc2")) -> list[Rule]:
    """The layers of squeeze-and-excitation, of theirs convolutions, of ours linear."""
    pairs = zip(names, ("reduce", "expand"), strict=True)
    return [conv_to_linear(f"{theirs}.{name}", f"{ours}.{place}") for name, place in pairs]
