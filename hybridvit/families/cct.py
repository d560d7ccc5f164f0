"""Compact Transformers (arXiv 2104.05704): CCT with a convolutional tokenizer and sequence pooling.

The two steps on the way to it are ViT-Lite (`vit_*_4_32`: patches, class token) and CVT (`cvt_*_4_32`: patches,
sequence pooling).
"""

from .. import components as c
from . import Family, Grid, KeyRules, Model, Sizes, Stage, classifier, renames

NORM = c.LayerNorm(eps=1e-5)

# Width, heads and ratio of the hidden width by the number of blocks.
NUMBERS = {2: (128, 2, 1), 4: (128, 2, 1), 6: (256, 4, 2), 7: (256, 4, 2), 14: (384, 6, 3)}


def tokenizer(dim: int, kernel: int, convs: int) -> c.Transition:
    """`convs` times a convolution, ReLU and an overlapping maximum that halves the map; 64 channels until the last."""
    stride, padding = max(1, kernel // 2 - 1), kernel // 2
    last = c.Conv(dim=dim, kernel=kernel, stride=stride, padding=padding, act="relu")
    return c.Steps(steps=(*(last.replace(dim=64), c.MaxPool()) * (convs - 1), last, c.MaxPool()))


def compact_transformer(
    *, depth: int, kernel: int, convs: int = 0, sequence_pool: bool = True, sine: bool = False, img_size: int = 32
) -> Model:
    """A compact transformer. Without convolutions (`convs` 0) patches of `kernel` x `kernel` pixels are the tokens."""
    dim, heads, mlp_ratio = NUMBERS[depth]
    attention = c.Branch(mixer=c.Attention(heads=heads, qkv_bias=False), norm=NORM)
    # The norm in the middle replaces the residual stream instead of feeding a branch.
    middle = c.Branch(mixer=c.Normalize(norm=NORM), residual=False)
    block = c.Block(branches=(attention, middle, c.Branch(mixer=c.Mlp(hidden=mlp_ratio * dim))))
    enter = tokenizer(dim, kernel, convs) if convs else c.Patchify(dim=dim, patch=kernel)
    size = enter.out_grid(Grid(img_size, img_size)).size
    position = c.SinePosition(size=size) if sine else c.LearnedPosition()
    stage = Stage(enter=enter, blocks=(block,) * depth, prefix=0 if sequence_pool else 1, position=position)
    pool = c.SequencePool(norm=NORM) if sequence_pool else c.TokenPool(norm=NORM)
    return classifier((stage,), pool, img_size).replace(num_classes=10)


def original_rules(model: Model) -> KeyRules:
    """The layout of the authors' own checkpoints. A sine table is computed here, so theirs is dropped."""
    stage = model.stages[0]
    ends = "class_emb=stages.0.prefix.tokens positional_emb=stages.0.position.table "
    ends += "norm=pool.norm attention_pool=pool.score fc=head"
    block = "pre_norm=0.norm self_attn=0.mixer norm1=1.mixer.norm linear1=2.mixer.fc1 linear2=2.mixer.fc2"
    # A tokenizer step is convolution, ReLU and pooling of theirs, convolution and pooling of ours.
    convs = "0.0=steps.0.conv 1.0=steps.2.conv" if stage.enter.kind == c.Steps.kind else "0.0=conv"
    rules = renames("tokenizer.conv_layers", "stages.0.enter", convs) + renames("classifier", "", ends)
    rules += renames("classifier.blocks.{b}", "stages.0.blocks.{b}.branches", block)
    return KeyRules(rules, constants=() if stage.position == c.LearnedPosition() else ("classifier.positional_emb",))


SIZES: Sizes = {
    f"cct_{depth}_3x{convs}_32": {"depth": depth, "kernel": 3, "convs": convs}
    for depth, convs in ((2, 2), (4, 2), (6, 1), (6, 2), (7, 1), (7, 2))
}
SIZES["cct_7_7x2_224"] = {"depth": 7, "kernel": 7, "convs": 2, "img_size": 224, "num_classes": 102}
for depth in (2, 4, 6, 7):
    SIZES[f"cvt_{depth}_4_32"] = {"depth": depth, "kernel": 4}
    SIZES[f"vit_{depth}_4_32"] = {"depth": depth, "kernel": 4, "sequence_pool": False}
SIZES |= {f"{name}_sine": size | {"sine": True} for name, size in SIZES.items()}
LARGE = {"depth": 14, "kernel": 7, "convs": 2, "num_classes": 1000}
SIZES |= {f"cct_14_7x2_{img_size}": LARGE | {"img_size": img_size} for img_size in (224, 384)}
FAMILY = Family("cct", "arXiv 2104.05704", compact_transformer, SIZES, {"original": original_rules})
