"""ViT: patches, a class token, transformer blocks (arXiv 2010.11929); DINOv2 (2304.07193), registers (2309.16588)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from ..components.attention import Attention
from ..components.blocks import Block, Branch, transformer_block
from ..components.heads import LinearHead
from ..components.mixers import Mlp
from ..components.norms import LayerNorm
from ..components.pools import MeanPool, TokenPool
from ..components.positions import LearnedPosition
from ..components.transitions import Normalize, Patchify
from ..encoder import Model, Stage
from ..keys import Concat, KeyRules, Rename
from ..layouts import HEAD_RULES, TRANSFORMERS_V5, transformers_rules, trunk_rules
from ..spec import Norm, Transition
from . import Family


class Width(NamedTuple):
    """Channels, number of blocks, attention heads and hidden channels over channels of a ViT."""

    dim: int
    depth: int
    heads: int
    mlp_ratio: int = 4


WIDTHS = {
    "tiny": Width(192, 12, 3),
    "small": Width(384, 12, 6),
    "medium": Width(512, 12, 8),
    "base": Width(768, 12, 12),
    "large": Width(1024, 24, 16),
    "huge": Width(1280, 32, 16),
}
NORM = LayerNorm(eps=1e-6)


def vit_stage(
    *,
    enter: Transition,
    width: Width,
    prefix: int = 1,
    position_on_prefix: bool = True,
    layer_scale: float | None = None,
    pre_norm: Norm | None = None,
    norm: Norm = NORM,
) -> Stage:
    """The stage that is a ViT: `enter` makes the tokens, equal blocks mix them. `pre_norm` comes before these."""
    block = transformer_block(Attention(heads=width.heads), Mlp(hidden=width.mlp_ratio * width.dim), norm, layer_scale)
    first = (Block(branches=(Branch(mixer=Normalize(norm=pre_norm), residual=False),)),) if pre_norm else ()
    return Stage(
        enter=enter,
        prefix=prefix,
        position=LearnedPosition(on_prefix=position_on_prefix),
        blocks=first + (block,) * width.depth,
    )


def vit(
    *,
    width: str,
    patch: int,
    img_size: int = 224,
    registers: int = 0,
    class_token: bool = True,
    position_on_prefix: bool = True,
    layer_scale: float | None = None,
    clip: bool = False,
    num_classes: int = 1000,
) -> Model:
    """A ViT of a named width. `clip`: a norm before the blocks, not a bias in the patch embedding (2103.00020)."""
    norm = LayerNorm(eps=1e-5) if clip else NORM
    return Model(
        stages=(
            vit_stage(
                enter=Patchify(dim=WIDTHS[width].dim, patch=patch, bias=not clip),
                width=WIDTHS[width],
                prefix=int(class_token) + registers,
                position_on_prefix=position_on_prefix,
                layer_scale=layer_scale,
                pre_norm=norm if clip else None,
                norm=norm,
            ),
        ),
        pool=TokenPool(norm=norm) if class_token else MeanPool(post_norm=norm),
        head=LinearHead(),
        img_size=(img_size, img_size),
        num_classes=num_classes,
    )


def _sizes() -> dict[str, dict[str, Any]]:
    patches = {"tiny": (16,), "small": (8, 16, 32), "base": (8, 16, 32), "large": (14, 16, 32), "huge": (14,)}
    finetuned = ("tiny_16", "small_16", "small_32", "base_16", "base_32", "large_16", "large_32")
    sizes: dict[str, dict[str, Any]] = {}
    for width, of_width in patches.items():
        for patch in of_width:
            sizes[f"vit_{width}_patch{patch}_224"] = {"width": width, "patch": patch}
            if f"{width}_{patch}" in finetuned:
                sizes[f"vit_{width}_patch{patch}_384"] = {"width": width, "patch": patch, "img_size": 384}
    for width in ("small", "base", "large"):
        dinov2 = {"width": width, "patch": 14, "img_size": 518, "layer_scale": 1e-5, "num_classes": 0}
        sizes[f"vit_{width}_patch14_dinov2"] = dinov2
        sizes[f"vit_{width}_patch14_reg4_dinov2"] = dinov2 | {"registers": 4, "position_on_prefix": False}
    for width, patch in (("base", 16), ("base", 32), ("large", 14)):
        sizes[f"vit_{width}_patch{patch}_clip_224"] = {"width": width, "patch": patch, "clip": True}
    gap = {"img_size": 256, "registers": 4, "class_token": False, "position_on_prefix": False}
    sizes["vit_medium_patch16_reg4_gap_256"] = {"width": "medium", "patch": 16, "layer_scale": 1e-5} | gap
    sizes["vit_base_patch16_reg4_gap_256"] = {"width": "base", "patch": 16} | gap
    return sizes


def prefix_tokens(model: Model) -> tuple[str, ...]:
    """timm's names of what is one tensor of ours: class token and registers."""
    class_token = model.pool.kind == TokenPool.kind
    registers = model.stages[0].prefix > class_token
    return ("cls_token",) * class_token + ("reg_token",) * registers


def timm_rules(model: Model) -> KeyRules:
    """timm's layout: class token and registers apart, and the norm before the blocks outside them."""
    blocks, tokens = model.stages[0].blocks, prefix_tokens(model)
    sizes = (1, model.stages[0].prefix - 1) if len(tokens) == 2 else None
    return KeyRules(
        [
            Rename("patch_embed.proj", "stages.0.enter.conv"),
            Concat(tokens, "stages.0.prefix.tokens", dim=1, sizes=sizes),
            *trunk_rules(first_block=int(not blocks[0].branches[0].residual)),
            *HEAD_RULES,
        ]
    )


FAMILY = Family(
    name="vit",
    paper="arXiv 2010.11929",
    build=vit,
    sizes=_sizes(),
    layouts={
        "timm": timm_rules,
        "transformers": transformers_rules,
        "transformers-v5": partial(transformers_rules, names=TRANSFORMERS_V5),
    },
)
