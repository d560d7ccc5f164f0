"""RoPE-ViT (arXiv 2403.13298): ViTs whose queries and keys are turned by their position.

`mixed` models learn the rates of turning, `ape` models add absolute positions as well. The models with registers and
without a class token are timm's.
"""

from .. import components as c
from ..layouts import timm_eva_rules
from ..trunks import NORM, WIDTHS, named_sizes, vit_stage
from . import Family, KeyRules, Model, Rule, Sizes, Split, classifier

FIXED = c.IndexRotary(temperature=100.0, columns_first=True)
# As EVA-02's: the grid of the pretraining is 256 / 16 positions a side.
AS_EVA = c.IndexRotary(reference=(16, 16))


def vit_rope(
    *, width: str, patch: int, mixed: bool = False, absolute: bool = False, registers: int = 0, qkv_bias: bool = True
) -> Model:
    """A RoPE-ViT of a named width; with `registers`, they take the place of the class token and of biases of keys."""
    of = WIDTHS[width]
    rotary, key_bias = c.LearnedRotary() if mixed else AS_EVA if registers else FIXED, not registers or not qkv_bias
    attention = c.RotaryAttention(heads=of.heads, qkv_bias=qkv_bias, key_bias=key_bias, rotary=rotary)
    position = c.LearnedPosition(on_prefix=False) if absolute else c.NoPosition()
    block = c.transformer_block(attention, c.Mlp(hidden=of.hidden), NORM, layer_scale=1e-5)
    stage = vit_stage(enter=patch, width=of, prefix=registers or 1, position=position, block=block)
    return classifier((stage,), c.MeanPool(post_norm=NORM) if registers else c.TokenPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, in which the learned rates of all blocks are one tensor."""
    stage, first = model.stages[0], list[Rule]()
    if isinstance(stage.blocks[0].branches[0].mixer, c.RotaryAttention):
        blocks = [f"stages.0.blocks.{b}.branches.0.mixer.rotary.rates" for b in range(len(stage.blocks))]
        first.append(Split("rope.freqs", blocks, dim=1))
    return timm_eva_rules(model, class_token=model.pool.kind == c.TokenPool.kind, first=first)


SIZES: Sizes = (
    named_sizes("vit_{small,base,large}_patch16_rope_224")
    | named_sizes("vit_{small,base,large}_patch16_rope_mixed_224", mixed=True)
    | named_sizes("vit_{small,base,large}_patch16_rope_ape_224", absolute=True)
    | named_sizes("vit_{small,base,large}_patch16_rope_mixed_ape_224", mixed=True, absolute=True)
    | named_sizes("vit_{medium,base}_patch16_rope_reg1_gap_256", registers=1)
    | named_sizes("vit_mediumd_patch16_rope_reg1_gap_256", registers=1, qkv_bias=False)
    | named_sizes("vit_betwixt_patch16_rope_reg4_gap_256", registers=4)
)
FAMILY = Family("vit_rope", "arXiv 2403.13298", vit_rope, SIZES, {"timm": timm_rules})
