"""XCiT: attention between channels, and convolutions between neighbours (arXiv 2106.09681).

The last two blocks are class attention: only the class token, added there, takes from the others.
"""

from ..components import Block, Branch, ClassAttention, Conv, FourierPosition, LinearHead, TokenPool, doubling_stem
from ..components.channels import CrossCovarianceAttention
from ..components.mixers import LayerScale, Mlp, OnPrefix
from ..components.norms import BatchNorm, LayerNorm
from ..components.transitions import Identity, Normalize, Steps
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, conv_to_linear
from . import Family, Sizes

NORM = LayerNorm(eps=1e-6)


def xcit(
    *, dim: int, depth: int, heads: int, patch: int, layer_scale: float, norm_all: bool = True, img_size: int = 224
) -> Model:
    """An XCiT. `norm_all`: in class attention the second norm is of all tokens, not of the class token alone."""
    filters = Conv(dim=dim, kernel=3, groups=dim, bias=True)
    local = Steps(steps=(filters.replace(act="gelu"), Normalize(norm=BatchNorm()), filters))
    mlp = Mlp(hidden=4 * dim)
    mixers = (CrossCovarianceAttention(heads=heads), local, mlp)
    block = Block(branches=tuple(Branch(mixer=mixer, norm=NORM, layer_scale=layer_scale) for mixer in mixers))
    norm = Normalize(norm=NORM)
    class_block = Block(
        branches=(
            Branch(mixer=ClassAttention(heads=heads), norm=NORM, layer_scale=layer_scale),
            Branch(mixer=norm if norm_all else OnPrefix(mixer=norm), residual=False),
            # The other tokens are doubled, as in the released models.
            Branch(mixer=OnPrefix(mixer=Steps(steps=(mlp, LayerScale(initial=layer_scale))))),
        )
    )
    return Model(
        stages=(
            Stage(
                enter=doubling_stem(dim, patch, BatchNorm(), "gelu"),
                position=FourierPosition(),
                blocks=(block,) * depth,
            ),
            Stage(enter=Identity(), prefix=1, blocks=(class_block,) * 2),
        ),
        pool=TokenPool(norm=NORM),
        head=LinearHead(),
        img_size=(img_size, img_size),
    )


def _sizes() -> Sizes:
    widths = {
        "nano_12": {"dim": 128, "heads": 4, "depth": 12, "layer_scale": 1.0, "norm_all": False},
        "tiny_12": {"dim": 192, "heads": 4, "depth": 12, "layer_scale": 1.0},
        "small_12": {"dim": 384, "heads": 8, "depth": 12, "layer_scale": 1.0},
        "tiny_24": {"dim": 192, "heads": 4, "depth": 24, "layer_scale": 1e-5},
        "small_24": {"dim": 384, "heads": 8, "depth": 24, "layer_scale": 1e-5},
        "medium_24": {"dim": 512, "heads": 8, "depth": 24, "layer_scale": 1e-5},
        "large_24": {"dim": 768, "heads": 16, "depth": 24, "layer_scale": 1e-5},
    }
    return {
        f"xcit_{width}_p{patch}_{size}": numbers | {"patch": patch, "img_size": size}
        for width, numbers in widths.items()
        for patch in (16, 8)
        for size in (224, 384)
    }


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block, ours = "blocks.{b}", "stages.0.blocks.{b}.branches"
    last, our_last = "cls_attn_blocks.{b}", "stages.1.blocks.{b}.branches"
    norm_all = isinstance(model.stages[1].blocks[0].branches[1].mixer, Normalize)
    return KeyRules(
        [
            *(
                rule
                for step in range(4)
                for rule in (
                    Rename(f"patch_embed.proj.{2 * step}.0", f"stages.0.enter.steps.{step}.conv"),
                    Rename(f"patch_embed.proj.{2 * step}.1", f"stages.0.enter.steps.{step}.norm"),
                )
            ),
            conv_to_linear("pos_embed.token_projection", "stages.0.position.proj"),
            Rename("cls_token", "stages.1.prefix.tokens"),
            *(Rename(f"{block}.norm{number}", f"{ours}.{branch}.norm") for branch, number in enumerate((1, 3, 2))),
            *(
                Rename(f"{block}.gamma{number}", f"{ours}.{branch}.layer_scale")
                for branch, number in enumerate((1, 3, 2))
            ),
            Rename(f"{block}.attn.temperature", f"{ours}.0.mixer.factor"),
            Rename(f"{block}.attn", f"{ours}.0.mixer"),
            Rename(f"{block}.local_mp.conv1", f"{ours}.1.mixer.steps.0.conv"),
            Rename(f"{block}.local_mp.bn", f"{ours}.1.mixer.steps.1.norm"),
            Rename(f"{block}.local_mp.conv2", f"{ours}.1.mixer.steps.2.conv"),
            Rename(f"{block}.mlp", f"{ours}.2.mixer"),
            Rename(f"{last}.norm1", f"{our_last}.0.norm"),
            Rename(f"{last}.gamma1", f"{our_last}.0.layer_scale"),
            *(Rename(f"{last}.attn.{name[0]}", f"{our_last}.0.mixer.{name}") for name in ("query", "key", "value")),
            Rename(f"{last}.attn.proj", f"{our_last}.0.mixer.proj"),
            Rename(f"{last}.norm2", f"{our_last}.1.mixer.norm" if norm_all else f"{our_last}.1.mixer.mixer.norm"),
            Rename(f"{last}.gamma2", f"{our_last}.2.mixer.mixer.steps.1.gamma"),
            Rename(f"{last}.mlp", f"{our_last}.2.mixer.mixer.steps.0"),
            Rename("norm", "pool.norm"),
            Rename("head", "head"),
        ]
    )


FAMILY = Family(name="xcit", paper="arXiv 2106.09681", build=xcit, sizes=_sizes(), layouts={"timm": timm_rules})
