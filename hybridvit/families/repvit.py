"""RepViT: the layout of a transformer block with filters in place of attention (arXiv 2307.09283).

A filter trains as two convolutions and a shortcut, which one convolution can replace. No attention: it is a CNN.
"""

from .. import components as c
from ..layouts import excite_rules, normed_head_rules, normed_renames
from . import Family, KeyRules, Model, PerStage, Rule, Sizes, Stage, classifier, renames

NORM = c.BatchNorm()


def filters(dim: int, early: bool, excite: bool = False) -> c.Steps:
    """The filter and what gates it. `early` models have a norm behind each convolution, others one behind the sum."""
    conv = c.Conv(dim=dim, kernel=3, groups=dim, norm=NORM)
    small = conv.replace(kernel=1) if early else conv.replace(kernel=1, norm=None, bias=True)
    gate = c.excite_part(dim) if excite else c.Identity()
    both = c.Add(body=c.Add(shortcut=small, body=conv))
    return c.Steps(steps=(both, c.Identity() if early else c.Normalize(norm=NORM), gate))


def repvit(*, dims: PerStage, depths: PerStage, early: bool = False) -> Model:
    """A RepViT of given widths and depths."""
    stages: list[Stage] = []
    for index, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        enter = c.doubling_stem(dim, 4, NORM, "gelu")
        if index:
            before = dims[index - 1]
            down = c.Conv(dim=before, kernel=3, stride=2, groups=before, norm=NORM)
            more, wide = (c.Add(body=c.conv_mlp(width, "gelu")) for width in (before, dim))
            enter = c.Steps(steps=(filters(before, early), more, down, c.Conv(dim=dim, norm=NORM), wide))
        last = c.Branch(mixer=c.conv_mlp(dim, "gelu"))
        firsts = (c.Branch(mixer=filters(dim, early, gate), residual=False) for gate in (True, False))
        excited, plain = (c.Block(branches=(first, last)) for first in firsts)
        stages.append(Stage(enter=enter, blocks=(excited, plain) * (depth // 2)))
    return classifier(stages, c.MeanPool(), head=c.NormedHead(norm=NORM, count=2))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    mixer = model.stages[0].blocks[0].branches[0].mixer
    early = isinstance(mixer, c.Steps) and mixer.steps[1] == c.Identity()
    rules = normed_head_rules("head.head", "head.head_dist", layer="l")

    def block(theirs: str, mixer: str, mlp: str) -> list[Rule]:
        both, filters = f"{mixer}.steps.0.body", "conv=body conv1=shortcut" if early else "conv=body"
        return [
            *normed_renames(f"{theirs}.token_mixer", both, filters),
            *renames(f"{theirs}.token_mixer", mixer, "conv1=steps.0.body.shortcut.conv bn=steps.1.norm"),
            *excite_rules(f"{theirs}.se", f"{mixer}.steps.2"),
            *normed_renames(f"{theirs}.channel_mixer", f"{mlp}.steps", "conv1=0 conv2=1"),
        ]

    down, enter, ours = "stages.{s}.downsample", "stages.{s}.enter.steps", "stages.{s}.blocks.{b}.branches"
    rules += normed_renames("stem", "stages.0.enter.steps", "conv1=0 conv2=1")
    rules += block("stages.{s}.blocks.{b}", f"{ours}.0.mixer", f"{ours}.1.mixer")
    rules += block(f"{down}.pre_block", f"{enter}.0", f"{enter}.1.body")
    parts = "spatial_downsample=2 channel_downsample=3 ffn.conv1=4.body.steps.0 ffn.conv2=4.body.steps.1"
    return KeyRules(rules, normed_renames(down, enter, parts))


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
FAMILY = Family("repvit", "arXiv 2307.09283", repvit, SIZES, {"timm": timm_rules})
