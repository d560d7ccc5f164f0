"""XCiT: attention between channels, and convolutions between neighbours (arXiv 2106.09681).

The last two blocks are class attention: only the class token, added there, takes from the others.
"""

from .. import components as c
from . import Family, KeyRules, Model, Sizes, Stage, classifier, conv_to_linear, renames

NORM = c.LayerNorm(eps=1e-6)


def xcit(*, dim: int, depth: int, heads: int, patch: int, layer_scale: float, norm_all: bool = True) -> Model:
    """An XCiT. `norm_all`: in class attention the second norm is of all tokens, not of the class token alone."""
    filters = c.Conv(dim=dim, kernel=3, groups=dim, bias=True)
    local = c.Steps(steps=(filters.replace(act="gelu"), c.Normalize(norm=c.BatchNorm()), filters))
    mlp, norm = c.Mlp(hidden=4 * dim), c.Normalize(norm=NORM)
    block = c.residual_block(c.CrossCovarianceAttention(heads=heads), local, mlp, norm=NORM, layer_scale=layer_scale)
    attend = c.Branch(mixer=c.ClassAttention(heads=heads), norm=NORM, layer_scale=layer_scale)
    middle = c.Branch(mixer=norm if norm_all else c.OnPrefix(mixer=norm), residual=False)
    # The other tokens are doubled, as in the released models.
    update = c.Branch(mixer=c.OnPrefix(mixer=c.Steps(steps=(mlp, c.LayerScale(initial=layer_scale)))))
    stem = c.doubling_stem(dim, patch, c.BatchNorm(), "gelu")
    first = Stage(enter=stem, position=c.FourierPosition(), blocks=(block,) * depth)
    last = Stage(enter=c.Identity(), prefix=1, blocks=(c.Block(branches=(attend, middle, update)),) * 2)
    return classifier((first, last), c.TokenPool(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    block, ours = "blocks.{b}", "stages.0.blocks.{b}.branches"
    last, our_last = "cls_attn_blocks.{b}", "stages.1.blocks.{b}.branches"
    norm_all = isinstance(model.stages[1].blocks[0].branches[1].mixer, c.Normalize)
    rules = renames("", "", "cls_token=stages.1.prefix.tokens norm=pool.norm head")
    for step in range(4):
        rules += renames(f"patch_embed.proj.{2 * step}", f"stages.0.enter.steps.{step}", "0=conv 1=norm")
    rules.append(conv_to_linear("pos_embed.token_projection", "stages.0.position.proj"))
    rules += renames(block, ours, "norm1=0.norm norm3=1.norm norm2=2.norm attn.temperature=0.mixer.factor attn=0.mixer")
    rules += renames(block, ours, "gamma1=0.layer_scale gamma3=1.layer_scale gamma2=2.layer_scale mlp=2.mixer")
    rules += renames(f"{block}.local_mp", f"{ours}.1.mixer.steps", "conv1=0.conv bn=1.norm conv2=2.conv")
    norm = "1.mixer.norm" if norm_all else "1.mixer.mixer.norm"
    rules += renames(last, our_last, f"norm1=0.norm gamma1=0.layer_scale norm2={norm}")
    rules += renames(f"{last}.attn", f"{our_last}.0.mixer", "q=query k=key v=value proj")
    rules += renames(last, f"{our_last}.2.mixer.mixer.steps", "mlp=0 gamma2=1.gamma")
    return KeyRules(rules)


SIZES: Sizes = {
    f"xcit_{name}_{depth}_p{patch}_{size}": {"dim": dim, "depth": depth, "heads": heads, "patch": patch}
    | {"layer_scale": 1.0 if depth == 12 else 1e-5, "norm_all": name != "nano", "img_size": size}
    for name, depth, dim, heads in (
        ("nano", 12, 128, 4),
        ("tiny", 12, 192, 4),
        ("small", 12, 384, 8),
        ("tiny", 24, 192, 4),
        ("small", 24, 384, 8),
        ("medium", 24, 512, 8),
        ("large", 24, 768, 16),
    )
    for patch in (16, 8)
    for size in (224, 384)
}
FAMILY = Family("xcit", "arXiv 2106.09681", xcit, SIZES, {"timm": timm_rules})
