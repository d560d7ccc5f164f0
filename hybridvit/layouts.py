"""Key rules that families share: what other packages call the parts of a ViT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from .components.attention import Attention
from .components.mixers import GatedMlp
from .components.transitions import Normalize
from .encoder import Model
from .keys import Concat, KeyRules, Rename, Rule, Split, conv_to_linear, renames
from .spec import Grid

MakeRule = Callable[[str, str], Rule]


def trunk_rules(stage: int = 0, first_block: int = 0, norm: str = "norm") -> list[Rule]:
    """timm's names of the blocks of a ViT, for a stage of ours whose transformer blocks start at `first_block`.

    `norm` is "post_norm" if norms are behind attention and MLP.
    """
    ours, first = f"stages.{stage}", "norm_pre=blocks.0.branches.0.mixer.norm" if first_block else ""
    parts = f"norm1=0.{norm} attn=0.mixer ls1.gamma=0.layer_scale norm2=1.{norm} mlp=1.mixer ls2.gamma=1.layer_scale"
    block = renames("blocks.{b}", f"{ours}.blocks.{{b+{first_block}}}.branches", parts)
    return [*renames("", ours, f"pos_embed=position.table {first}"), *block]


HEAD_RULES: list[Rule] = [
    *renames("", "", "norm=pool.norm fc_norm=pool.post_norm head"),
    *renames("attn_pool", "pool", "latent q=query kv=key_value proj norm=mlp_norm mlp"),
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
    sizes = (1, registers) if len(tokens) == 2 else None
    start = [
        Rename("patch_embed.proj", "stages.0.enter.conv"),
        Concat(tokens, "stages.0.prefix.tokens", dim=1, sizes=sizes),
    ]
    trunk = gated_rules(model) + trunk_rules(first_block=first_block, norm=norm)
    return KeyRules(first, start, trunk, HEAD_RULES, dropped=dropped)


def timm_eva_rules(model: Model, class_token: bool = True, first: Sequence[Rule] = ()) -> KeyRules:
    """timm's layout of BEiT, EVA and those after them: a ViT with other names of layer scales and of biases.

    Queries and values alone have a bias, unless the model says otherwise. EVA-02 has three layers where others have
    `qkv`, and two layers of a gated MLP are one if the MLP has no norm.
    """
    attention, mlp = (branch.mixer for branch in model.stages[0].blocks[-1].branches)
    theirs, block = "blocks.{b}", f"stages.0.blocks.{{b+{_first_block(model)}}}.branches"
    rules = renames(theirs, block, "gamma_1=0.layer_scale gamma_2=1.layer_scale")
    keyless = isinstance(attention, Attention) and attention.qkv_bias and not attention.key_bias
    if isinstance(mlp, GatedMlp) and mlp.norm:
        parts = [f"{theirs}.attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]
        rules.append(Concat([f"{part}.weight" for part in parts], f"{block}.0.mixer.qkv.weight"))
        rules.append(Concat([f"{parts[0]}.bias", f"{parts[2]}.bias"], f"{block}.0.mixer.qkv.bias"))
    elif keyless:
        biases = [f"{theirs}.attn.{name}" for name in ("q_bias", "v_bias")]
        rules.append(Concat(biases, f"{block}.0.mixer.qkv.bias"))
    return timm_vit_rules(model, class_token, [*first, *rules])


def gated_rules(model: Model, packed: bool | None = None) -> list[Rule]:
    """timm's names of gated MLPs, if there are any.

    Their first two layers are one if `packed`, which by default those without a norm are.
    """
    mlp = model.stages[0].blocks[-1].branches[-1].mixer
    if not isinstance(mlp, GatedMlp):
        return []
    packed = mlp.norm is None if packed is None else packed
    theirs, ours = "blocks.{b}.mlp", f"stages.0.blocks.{{b+{_first_block(model)}}}.branches.1.mixer"
    first = [Split(f"{theirs}.fc1", [f"{ours}.gate", f"{ours}.value"])] if packed else []
    return [*first, *renames(theirs, ours, "fc1_g=gate fc1_x=value fc2=proj")]


def counted_blocks(model: Model) -> Iterator[tuple[int, int, int]]:
    """The blocks of all stages, counted through: the count, the stage, and the place in it."""
    places = ((s, b) for s, stage in enumerate(model.stages) for b in range(len(stage.blocks)))
    return ((count, s, b) for count, (s, b) in enumerate(places))


def normed_head_rules(*heads: str, norm: str = "bn", layer: str = "linear") -> list[Rule]:
    """The names of classifiers that are a norm and a linear layer each; without a `layer`, the linear layer alone."""
    return [
        rule
        for index, head in enumerate(heads)
        for rule in renames(head, "head", f"{norm}=norms.{index} {layer}=linears.{index}")
    ]


def map_to_table(theirs: str, ours: str, grid: Grid) -> Rename:
    """Positions of theirs are a map (1, C, H, W), of ours a table (1, H * W, C)."""

    def to_theirs(table: Tensor) -> Tensor:
        return table.unflatten(1, grid.size).permute(0, 3, 1, 2).contiguous()

    return Rename(theirs, ours, lambda map_: map_.flatten(2).transpose(1, 2).contiguous(), to_theirs)


def map_to_vector(theirs: str, ours: str, batch: tuple[int, ...] = ()) -> Rename:
    """A factor a channel of theirs is a map (C, 1, 1), or (1, C, 1, 1) if `batch` is (1,), of ours a vector (C)."""
    return Rename(theirs, ours, lambda map_: map_.flatten(), lambda vector: vector.reshape(*batch, -1, 1, 1))


def normed_renames(
    theirs: str, ours: str, parts: str, conv: str = "c", norm: str = "bn", linear: bool | MakeRule = False
) -> list[Rule]:
    """As `renames`, of parts that are a convolution and its norm, by these names.

    `linear`: ours are linear layers, theirs 1 x 1 convolutions; or it is what makes the rule of a layer.
    """
    make = conv_to_linear if linear is True else linear

    def layer(their: str, our: str) -> Rule:
        return make(f"{their}.{conv}", f"{our}.linear") if make else Rename(f"{their}.{conv}", f"{our}.conv")

    norms = renames(theirs, ours, parts, lambda their, our: Rename(f"{their}.{norm}", f"{our}.norm"))
    return renames(theirs, ours, parts, layer) + norms


def normed_rules(places: Mapping[str, str], conv: str = "c", norm: str = "bn", linear: bool = False) -> list[Rule]:
    """As `normed_renames`, of whole places, theirs -> ours."""
    return [rule for pair in places.items() for rule in normed_renames(*pair, "=", conv, norm, linear)]


def excite_rules(theirs: str, ours: str, names: tuple[str, str] = ("fc1", "fc2")) -> list[Rule]:
    """The layers of squeeze-and-excitation, of theirs convolutions, of ours linear."""
    return renames(theirs, ours, f"{names[0]}=reduce {names[1]}=expand", conv_to_linear)
