"""ViTs whose layers lie side by side instead of one after another.

`18x2` has two attentions, then two MLPs (arXiv 2203.09795). `xp` and `pwee` have an attention beside an MLP
(2302.05442), the former with queries and keys normalised.
"""

from .. import components as c
from ..layouts import timm_vit_rules
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_stage
from . import Family, KeyRules, Model, Rule, Sizes, Split, classifier, renames

WIDTHS = WIDTHS | {"pwee": Width(256, 16, 4, mlp_ratio=5), "small_18": Width(384, 18, 6), "base_18": Width(768, 18, 12)}


def side_by_side(attention: c.Transition, mlp: c.Mlp, norm: c.Norm, layer_scale: float | None = None) -> c.Block:
    """Attention and MLP of the same normalised tokens, added."""
    return c.residual_block(c.Add(shortcut=attention, body=mlp), norm=norm, layer_scale=layer_scale)


def two_by_two(attention: c.Transition, mlp: c.Mlp, norm: c.Norm, layer_scale: float) -> c.Block:
    """Two attentions of the same tokens, added, then two MLPs; each has a norm and a scale of its own."""
    before, behind = c.Normalize(norm=norm), c.LayerScale(initial=layer_scale)
    sides = (c.Steps(steps=(before, mixer, behind)) for mixer in (attention, mlp))
    return c.residual_block(*(c.Add(shortcut=side, body=side) for side in sides))


def vit_parallel(*, width: str, patch: int, registers: int = 0, pairs: bool = False, qk_norm: bool = False) -> Model:
    """A ViT of a named width. `pairs` are those of 2203.09795; with `registers` there is no class token."""
    of = WIDTHS[width]
    mlp, norm = c.Mlp(hidden=of.hidden), c.RmsNorm() if qk_norm else NORM
    if pairs:
        block = two_by_two(c.Attention(heads=of.heads), mlp, norm, layer_scale=1e-5)
    elif qk_norm:
        block = side_by_side(c.Attention(heads=of.heads, qkv_bias=False, qk_norm=norm), mlp, norm)
    else:
        block = side_by_side(c.Attention(heads=of.heads), mlp, norm, layer_scale=1e-5)
    patches, position = c.Patchify(dim=of.dim, patch=patch, bias=not qk_norm), c.LearnedPosition(on_prefix=pairs)
    first, prefix = norm if qk_norm else None, registers or 1
    stage = vit_stage(enter=patches, width=of, prefix=prefix, position=position, pre_norm=first, block=block)
    return classifier((stage,), c.MeanPool(post_norm=norm) if registers else c.TokenPool(norm=norm))


def hidden_of(model: Model) -> int:
    """Hidden channels of the MLPs that lie beside attention."""
    mixer = model.stages[0].blocks[-1].branches[0].mixer
    assert isinstance(mixer, c.Add)
    assert isinstance(mixer.body, c.Mlp)
    return mixer.body.hidden


def side_by_side_rules(model: Model, first_block: int = 0) -> list[Rule]:
    """timm's names of these blocks: one layer makes all that the MLP and the attention start from."""
    theirs, ours = "blocks.{b}", f"stages.0.blocks.{{b+{first_block}}}.branches.0"
    sizes = (hidden_of(model), 3 * model.stages[0].enter.out_dim(model.in_chans))
    return [
        Split(f"{theirs}.in_proj", (f"{ours}.mixer.body.fc1", f"{ours}.mixer.shortcut.qkv"), sizes=sizes),
        *renames(theirs, ours, "in_norm=norm ls.gamma=layer_scale"),
        *renames(theirs, f"{ours}.mixer.body", "mlp_bias=fc1.bias mlp_out_proj=fc2"),
        *renames(theirs, f"{ours}.mixer.shortcut", "attn_out_proj=proj q_norm k_norm"),
    ]


def two_by_two_rules() -> list[Rule]:
    """timm's names of two attentions and two MLPs."""
    rules: list[Rule] = []
    for index, side in enumerate(("shortcut", "body")):
        attend, mlp = (f"stages.0.blocks.{{b}}.branches.{branch}.mixer.{side}.steps" for branch in (0, 1))
        rules += renames(f"blocks.{{b}}.attns.{index}", attend, "norm=0.norm attn=1 ls.gamma=2.gamma")
        rules += renames(f"blocks.{{b}}.ffns.{index}", mlp, "norm=0.norm mlp=1 ls.gamma=2.gamma")
    return rules


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    blocks = model.stages[0].blocks
    pairs, before = len(blocks[-1].branches) == 2, int(blocks[0].branches[0].mixer.kind == c.Normalize.kind)
    rules = two_by_two_rules() if pairs else side_by_side_rules(model, before)
    return timm_vit_rules(model, class_token=model.pool.kind == c.TokenPool.kind, first=rules)


SIZES: Sizes = (
    named_sizes("vit_pwee_patch16_reg1_gap_256", registers=1)
    | named_sizes("vit_small_patch16_18x2_224", width="small_18", pairs=True)
    | named_sizes("vit_base_patch16_18x2_224", width="base_18", pairs=True)
    | named_sizes("vit_base_patch16_xp_224 vit_{large,huge}_patch14_xp_224", qk_norm=True)
)
FAMILY = Family("vit_parallel", "arXiv 2302.05442", vit_parallel, SIZES, {"timm": timm_rules})
