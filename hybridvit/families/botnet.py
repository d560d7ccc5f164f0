"""BoTNet: a ResNet, some of whose 3 x 3 convolutions are attention instead (arXiv 2101.11605), as timm trained them.

Its recipe is also that of HaloNet and of the Lambda ResNet, which attend in another way.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from .. import components as c
from ..layouts import normed_renames
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, Stage, classifier, conv_to_linear, renames

NORM, HIDDEN = c.BatchNorm(), (64, 128, 256, 512)
OTHERS = "post_attn=3.norm attn.conv=3.conv self_attn.norm_q=1.q_norm self_attn.norm_v=1.v_norm "
OTHERS += "self_attn.pos_embed.height_rel=1.logits.height self_attn.pos_embed.width_rel=1.logits.width"
LINEAR = "self_attn.qkv=1.qkv self_attn.q=1.query self_attn.kv=1.key_value attn.fc1=3.reduce attn.fc2=3.expand"


def stem_stages(kind: str, act: str) -> list[Stage]:
    """Three "tiered" convolutions and a pooling, the last "strided" instead, "7x7" and a pooling, or "3x3"."""
    conv, pool = c.Conv(dim=64, kernel=3, norm=NORM, act=act), c.MaxPool()
    first, second = conv.replace(dim=24, stride=2), conv.replace(dim=32)
    stems: dict[str, tuple[tuple[c.Conv, ...], tuple[c.Transition, ...]]] = {
        "tiered": ((first, second, conv), (pool,)),
        "strided": ((first, second), (conv.replace(stride=2),)),
        "7x7": ((conv.replace(kernel=7, stride=2),), (pool,)),
        "3x3": ((second.replace(stride=2),), ()),
    }
    convs, others = stems[kind]
    return [Stage(enter=c.Steps(steps=convs)), *(Stage(enter=enter) for enter in others)]


def attention_resnet(
    *,
    blocks: str,
    attentions: Mapping[str, c.Transition],
    dims: PerStage = (256, 512, 1024, 2048),
    act: str = "silu",
    group_width: int | None = None,
    excite: Callable[[int], c.Transition] | None = None,
    stem: str = "tiered",
    last: int | None = None,
    inverted: bool = False,
) -> Model:
    """Bottlenecks: a word of `blocks` is a stage, a letter a block, "c" for one that convolves, or else its attention.

    `group_width` and `excite` are for those that convolve; `last` is the width before the pool. `inverted`: they are
    three times as wide as their input inside, have no activation behind the sum, and no shortcut where width or stride
    changes, as in RegNetZ.
    """

    def body(letter: str, in_dim: int, dim: int, hidden: int, stride: int = 1) -> c.Steps:
        hidden = 3 * in_dim if inverted else hidden
        conv = c.Conv(dim=hidden, norm=NORM, act=act)
        if letter == "c":
            mix = conv.replace(kernel=3, stride=stride, groups=hidden // group_width if group_width else 1)
            then = excite(hidden) if excite else c.Identity()
        else:
            mix, then = attentions[letter], c.Normalize(norm=NORM, act=act)
        pool = c.AvgPool(stride=stride) if mix.out_stride(1) < stride else c.Identity()
        alone = inverted and (in_dim, stride) != (dim, 1)
        last = c.Conv(dim=dim, norm=NORM if alone else c.BatchNorm(zero_init=True))
        return c.Steps(steps=(conv, mix, pool, then, last))

    def block(letter: str, dim: int, hidden: int) -> c.Block:
        branches = c.Branch(mixer=body(letter, dim, dim, hidden)), c.Branch(mixer=c.Activate(act=act), residual=False)
        return c.Block(branches=branches[:1] if inverted else branches)

    stages = stem_stages(stem, act)
    width = stages[-1].enter.out_dim(64)
    for index, (word, dim, hidden) in enumerate(zip(blocks.split(), dims, HIDDEN, strict=True)):
        stride = 2 if inverted or index else 1
        enter: c.Transition = c.Identity()
        if (width, stride) != (dim, 1):
            enter, word = body(word[0], width, dim, hidden, stride), word[1:]
            if not inverted:
                shortcut = c.Conv(dim=dim, stride=stride, norm=NORM)
                enter = c.Steps(steps=(c.Add(shortcut=shortcut, body=enter), c.Activate(act=act)))
        stages.append(Stage(enter=enter, blocks=tuple(block(letter, dim, hidden) for letter in word)))
        width = dim
    pool = c.MeanPool(before=c.Conv(dim=last, norm=NORM, act=act)) if last else c.MeanPool()
    return classifier(stages, pool, 256)


def bodies(model: Model) -> Iterator[tuple[str, str, Grid]]:
    """timm's place of blocks, ours of the steps of their bodies, and the grid in front of them."""
    grid, first = Grid(*model.img_size), len(model.stages) - 4
    for index, stage in enumerate(model.stages):
        theirs, entered = f"stages.{index - first}", 0
        if index >= first and isinstance(stage.enter, c.Steps):
            steps, entered = "steps.0.body.steps" if len(stage.enter.steps) == 2 else "steps", 1
            yield f"{theirs}.0", f"stages.{index}.enter.{steps}", grid
        grid = stage.out_grid(grid)
        yield f"{theirs}.{{b+{entered}}}", f"stages.{index}.blocks.{{b}}.branches.0.mixer.steps", grid


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    first, strided = len(model.stages) - 4, isinstance(model.stages[1].enter, c.Conv)
    rules = normed_renames("stem", "stages.1", "conv3=enter", "conv") if strided else []
    stem = "stem.conv{i+1}=stages.0.enter.steps.{i}" if first > 1 else "stem=stages.0.enter.steps.0"
    ends = f"final_conv=pool.before stages.{{s}}.0.shortcut=stages.{{s+{first}}}.enter.steps.0.shortcut"
    rules += normed_renames("", "", f"{stem} {ends}", "conv") + renames("", "", "head.fc=head")
    for theirs, ours, _ in bodies(model):
        rules += normed_renames(theirs, ours, "conv1_1x1=0 conv2_kxk=1 conv3_1x1=4", "conv")
        rules += renames(theirs, ours, OTHERS) + renames(theirs, ours, LINEAR, conv_to_linear)
    return KeyRules(rules)


# What the sizes of each depth share.
T26 = {"blocks": "cc cc ca aa", "act": "relu"}
TS33 = {"blocks": "cc cca cca aa", "dims": (256, 512, 1024, 1536), "stem": "strided", "last": 1280}
TS33 |= {"excite": partial(c.excite_part, part=16)}
TS50 = {"blocks": "ccc ccca cacaca cac"}
NEXT26 = T26 | {"act": "silu", "group_width": 16, "excite": lambda dim: c.EfficientChannelAttention()}
ATTENTION = {"attentions": {"a": c.BottleneckAttention()}}
SIZES: Sizes = {
    "botnet26t_256": T26 | ATTENTION,
    "sebotnet33ts_256": TS33 | ATTENTION,
    "botnet50ts_256": TS50 | ATTENTION,
    "eca_botnext26ts_256": NEXT26 | {"attentions": {"a": c.BottleneckAttention(key_dim=16)}},
}
FAMILY = Family("botnet", "arXiv 2101.11605", attention_resnet, SIZES, {"timm": timm_rules})
