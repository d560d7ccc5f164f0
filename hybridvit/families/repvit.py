"""RepViT: the layout of a transformer block with filters in place of attention (arXiv 2307.09283).

A filter trains as two convolutions and a shortcut, which one convolution can replace. No attention: it is a CNN.
"""

from ..components import BatchNorm, Block, Branch, Conv, MeanPool, NormedHead, doubling_stem, excite_quarter
from ..components.transitions import Add, Identity, Normalize, Steps
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, Rule
from ..layouts import excite_rules, normed_head_rules, normed_rules
from . import Family, Sizes

NORM, AT_0 = BatchNorm(), BatchNorm(zero_init=True)


def filters(dim: int, early: bool, excite: bool = False) -> Steps:
    """The filter and what gates it. `early` models have a norm behind each convolution, others one behind the sum."""
    conv = Conv(dim=dim, kernel=3, groups=dim, norm=NORM)
    small = conv.replace(kernel=1) if early else conv.replace(kernel=1, norm=None, bias=True)
    gate = excite_quarter(dim) if excite else Identity()
    both = Add(shortcut=Identity(), body=Add(shortcut=small, body=conv))
    return Steps(steps=(both, Identity() if early else Normalize(norm=NORM), gate))


def mlp(dim: int) -> Steps:
    """Two layers on each position, with norms."""
    return Steps(steps=(Conv(dim=2 * dim, norm=NORM, act="gelu"), Conv(dim=dim, norm=AT_0)))


def repvit(*, dims: tuple[int, ...], depths: tuple[int, ...], early: bool = False) -> Model:
    """A RepViT of given widths and depths."""
    stages: list[Stage] = []
    for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        enter = doubling_stem(dim, 4, NORM, "gelu")
        if index:
            before = dims[index - 1]
            down = Conv(dim=before, kernel=3, stride=2, groups=before, norm=NORM)
            more, wide_mlp = (Add(shortcut=Identity(), body=mlp(width)) for width in (before, dim))
            enter = Steps(steps=(filters(before, early), more, down, Conv(dim=dim, norm=NORM), wide_mlp))
        excited, plain = (
            Block(branches=(Branch(mixer=filters(dim, early, gate), residual=False), Branch(mixer=mlp(dim))))
            for gate in (True, False)
        )
        stages.append(Stage(enter=enter, blocks=(excited, plain) * (depth // 2)))
    return Model(stages=tuple(stages), pool=MeanPool(), head=NormedHead(norm=NORM, count=2))


WIDTHS = {width: (width, 2 * width, 4 * width, 8 * width) for width in (48, 56, 64, 80)}
SIZES: Sizes = {
    "repvit_m1": {"dims": WIDTHS[48], "depths": (2, 2, 14, 2), "early": True},
    "repvit_m2": {"dims": WIDTHS[64], "depths": (2, 2, 12, 2), "early": True},
    "repvit_m3": {"dims": WIDTHS[64], "depths": (4, 4, 18, 2), "early": True},
    "repvit_m0_9": {"dims": WIDTHS[48], "depths": (2, 2, 14, 2)},
    "repvit_m1_0": {"dims": WIDTHS[56], "depths": (2, 2, 14, 2)},
    "repvit_m1_1": {"dims": WIDTHS[64], "depths": (2, 2, 12, 2)},
    "repvit_m1_5": {"dims": WIDTHS[64], "depths": (4, 4, 24, 4)},
    "repvit_m2_3": {"dims": WIDTHS[80], "depths": (6, 6, 34, 2)},
}


BLOCK = "stages.{s}.blocks.{b}.branches"


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    mixer = model.stages[0].blocks[0].branches[0].mixer
    early = isinstance(mixer, Steps) and mixer.steps[1] == Identity()
    rules: list[Rule] = normed_head_rules("head.head", "head.head_dist", layer="l")

    def convs(theirs: str, ours: str, **places: str) -> None:
        rules.extend(normed_rules({f"{theirs}.{name}": f"{ours}.{place}" for name, place in places.items()}))

    def block(theirs: str, mixer: str, mlp: str) -> None:
        both = f"{mixer}.steps.0.body"
        convs(f"{theirs}.token_mixer", both, conv="body")
        if early:
            convs(f"{theirs}.token_mixer", both, conv1="shortcut")
        rules.append(Rename(f"{theirs}.token_mixer.conv1", f"{both}.shortcut.conv"))
        rules.append(Rename(f"{theirs}.token_mixer.bn", f"{mixer}.steps.1.norm"))
        rules.extend(excite_rules(f"{theirs}.se", f"{mixer}.steps.2"))
        convs(f"{theirs}.channel_mixer", mlp, conv1="steps.0", conv2="steps.1")

    convs("stem", "stages.0.enter", conv1="steps.0", conv2="steps.1")
    block("stages.{s}.blocks.{b}", f"{BLOCK}.0.mixer", f"{BLOCK}.1.mixer")
    down, enter = "stages.{s}.downsample", "stages.{s}.enter.steps"
    block(f"{down}.pre_block", f"{enter}.0", f"{enter}.1.body")
    convs(down, enter, spatial_downsample="2", channel_downsample="3")
    convs(f"{down}.ffn", f"{enter}.4.body.steps", conv1="0", conv2="1")
    return KeyRules(rules)


FAMILY = Family(name="repvit", paper="arXiv 2307.09283", build=repvit, sizes=SIZES, layouts={"timm": timm_rules})
