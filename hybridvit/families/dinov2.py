"""DINOv2 (arXiv 2304.07193), with and without registers (2309.16588), and TIPSv2 (2604.12012), which is built alike.

The `giant` ones have gated MLPs. Where there are registers, no prefix token has a position.
"""

from ..components import Attention, GatedMlp, LearnedPosition, Mlp, Patchify, TokenPool, transformer_block
from ..encoder import Model
from ..keys import Concat, KeyRules, Rename, Rule, Split
from ..layouts import timm_vit_rules, transformers_prefix
from ..trunks import NORM, WIDTHS, Width, named_sizes, vit_model, vit_stage
from . import Family, Sizes

WIDTHS = WIDTHS | {"giant": Width(1536, 40, 24, mlp_ratio=4096 / 1536)}


def dinov2(
    *, width: str, patch: int, img_size: int, registers: int = 0, layer_scale: float = 1e-5, num_classes: int = 0
) -> Model:
    """A DINOv2 of a named width."""
    of = WIDTHS[width]
    mlp = GatedMlp(hidden=of.hidden) if width == "giant" else Mlp(hidden=of.hidden)
    stage = vit_stage(
        enter=Patchify(dim=of.dim, patch=patch),
        width=of,
        prefix=1 + registers,
        position=LearnedPosition(on_prefix=not registers),
        block=transformer_block(Attention(heads=of.heads), mlp, NORM, layer_scale),
    )
    return vit_model(stage, TokenPool(norm=NORM), img_size, num_classes)


def _sizes() -> Sizes:
    tips = {"img_size": 448, "registers": 1, "layer_scale": 1.0}
    return (
        named_sizes(
            "vit_small_patch14_dinov2 vit_base_patch14_dinov2 vit_large_patch14_dinov2 vit_giant_patch14_dinov2",
            img_size=518,
        )
        | named_sizes(
            "vit_small_patch14_reg4_dinov2 vit_base_patch14_reg4_dinov2 vit_large_patch14_reg4_dinov2 "
            "vit_giant_patch14_reg4_dinov2",
            img_size=518,
            registers=4,
        )
        | named_sizes(
            "vit_base_patch14_reg1_tipsv2 vit_large_patch14_reg1_tipsv2 vit_so400m_patch14_reg1_tipsv2 "
            "vit_giant_patch14_reg1_tipsv2",
            **tips,
        )
    )


BLOCK = "stages.0.blocks.{b}.branches"


def gated_rules(model: Model, first: str, last: str) -> list[Rule]:
    """The two layers of a gated MLP: theirs makes gates and values at once, one after another."""
    if model.stages[0].blocks[0].branches[1].mixer.kind != GatedMlp.kind:
        return []
    return [Split(first, (f"{BLOCK}.1.mixer.gate", f"{BLOCK}.1.mixer.value")), Rename(last, f"{BLOCK}.1.mixer.proj")]


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    return timm_vit_rules(model, first=gated_rules(model, "blocks.{b}.mlp.fc1", "blocks.{b}.mlp.fc2"))


def transformers_layout(model: Model) -> KeyRules:
    """The files of transformers' `dinov2` without a classifier, for that reads another vector than the class token.

    Files of `dinov2_with_registers` do not fit: they add a position to the class token that here is a part of it, and
    from the sum no rule finds the way back. What stands for masked patches while training is dropped.
    """
    prefix = transformers_prefix(model, "dinov2")
    embeddings, theirs = f"{prefix}embeddings", f"{prefix}encoder.layer.{{b}}"
    qkv = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
    return KeyRules(
        [
            *gated_rules(model, f"{theirs}.mlp.weights_in", f"{theirs}.mlp.weights_out"),
            Rename(f"{embeddings}.cls_token", "stages.0.prefix.tokens"),
            Rename(f"{embeddings}.position_embeddings", "stages.0.position.table"),
            Rename(f"{embeddings}.patch_embeddings.projection", "stages.0.enter.conv"),
            Rename(f"{theirs}.norm1", f"{BLOCK}.0.norm"),
            Concat(qkv, f"{BLOCK}.0.mixer.qkv"),
            Rename(f"{theirs}.attention.output.dense", f"{BLOCK}.0.mixer.proj"),
            Rename(f"{theirs}.layer_scale1.lambda1", f"{BLOCK}.0.layer_scale"),
            Rename(f"{theirs}.norm2", f"{BLOCK}.1.norm"),
            Rename(f"{theirs}.mlp", f"{BLOCK}.1.mixer"),
            Rename(f"{theirs}.layer_scale2.lambda1", f"{BLOCK}.1.layer_scale"),
            Rename(f"{prefix}layernorm", "pool.norm"),
            Rename("classifier", "head"),
        ],
        dropped=[f"{embeddings}.mask_token"],
    )


LAYOUTS = {"timm": timm_rules, "transformers": transformers_layout}
FAMILY = Family(name="dinov2", paper="arXiv 2304.07193", build=dinov2, sizes=_sizes(), layouts=LAYOUTS)
