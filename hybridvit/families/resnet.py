"""ResNet (arXiv 1512.03385), with the deep stem and pooled shortcuts of ResNet-D (1812.01187): the `d` models.

The convolutional control of the hybrids. The stride of a bottleneck lies in its 3 x 3 convolution, and a block's last
norm starts at zero, as in timm and torchvision.
"""

from collections.abc import Sequence

from .. import components as c
from . import Family, KeyRules, Model, Rename, Rule, Sizes, Stage, classifier, renames

STEM_WIDTH = 64
DEEP_STEM = (32, 32, 64)
DEPTHS = {18: (2, 2, 2, 2), 26: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
DEPTHS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BASIC = (18, 34)
# timm's names of the stem's parts, each with its place among the steps of ours.
STEM = "conv1=0.conv bn1=0.norm"
DEEP_STEM_PARTS = "conv1.0=0.conv conv1.1=0.norm conv1.3=1.conv conv1.4=1.norm conv1.6=2.conv bn1=2.norm"


def residual_stages(
    recipe: c.Residual, *, stem: Sequence[int], depths: Sequence[int], pool: c.Transition, width: int = STEM_WIDTH
) -> tuple[Stage, ...]:
    """The stem at stride 2, its pooling, and a stage for each of the strides 4, 8, 16 and 32 that has a depth.

    `width` is that of the first stage's 3 x 3 convolutions; every stage doubles it.
    """
    stages = [Stage(enter=recipe.stem(*stem)), Stage(enter=pool)]
    in_dim = stem[-1]
    for index, depth in enumerate(depths):
        dim = width * 2**index * (4 if recipe.bottleneck else 1)
        block = recipe.block(dim)
        if index == 0 and dim == in_dim:
            stages.append(Stage(enter=c.Identity(), blocks=(block,) * depth))
        else:
            first = recipe.first_block(dim, stride=2 if index else 1)
            stages.append(Stage(enter=first, blocks=(block,) * (depth - 1)))
        in_dim = dim
    return tuple(stages)


def resnet_stages(*, layers: int, deep: bool = False, count: int = 4) -> tuple[Stage, ...]:
    """Stem and the first `count` stages of a ResNet of so many layers. `deep`: ResNet-D."""
    recipe = c.Residual(last_norm=c.BatchNorm(zero_init=True), bottleneck=layers not in BASIC, pooled_shortcut=deep)
    stem = DEEP_STEM if deep else (STEM_WIDTH,)
    return residual_stages(recipe, stem=stem, depths=DEPTHS[layers][:count], pool=c.MaxPool())


def resnet(*, layers: int, deep: bool = False) -> Model:
    """A ResNet of so many layers. `deep`: ResNet-D."""
    return classifier(resnet_stages(layers=layers, deep=deep), c.MeanPool())


def body_rules(theirs: str, ours: str, norm: str, first_norm: int = 1) -> list[Rule]:
    """timm's numbered convolutions and norms of a block of theirs, whose body is `ours`."""
    pairs = (f"conv{step + 1}={step}.conv {norm}{step + first_norm}={step}.norm" for step in range(3))
    return renames(theirs, f"{ours}.steps", " ".join(pairs))


def resnet_rules(model: Model, prefix: str = "") -> list[Rule]:
    """timm's and torchvision's names of the stem and the blocks, all after `prefix`."""
    stem = model.stages[0].enter
    assert isinstance(stem, c.Steps)
    deep = len(stem.steps) > 1
    first, enter, blocks = f"{prefix}layer{{s}}.0", "stages.{s+1}.enter.steps.0", "blocks.{b}.branches.0.mixer"
    shortcut = f"{enter}.shortcut.steps.1" if deep else f"{enter}.shortcut"
    rules = renames(prefix.removesuffix("."), "stages.0.enter.steps", DEEP_STEM_PARTS if deep else STEM)
    if model.stages[2].enter == c.Identity():
        rules += body_rules(f"{prefix}layer1.{{b}}", f"stages.2.{blocks}", "bn")
    rules += renames(f"{first}.downsample", shortcut, "1=conv 2=norm" if deep else "0=conv 1=norm")
    rules += body_rules(first, f"{enter}.body", "bn")
    return rules + body_rules(f"{prefix}layer{{s}}.{{b+1}}", f"stages.{{s+1}}.{blocks}", "bn")


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, which is also torchvision's."""
    return KeyRules(resnet_rules(model), Rename("fc", "head"))


SIZES: Sizes = {f"resnet{layers}": {"layers": layers} for layers in DEPTHS}
SIZES |= {f"resnet{layers}d": {"layers": layers, "deep": True} for layers in (18, 26, 34, 50)}
SIZES |= {f"resnet{layers}d": {"layers": layers, "deep": True, "img_size": 256} for layers in (101, 152)}
FAMILY = Family("resnet", "arXiv 1512.03385", resnet, SIZES, {"timm": timm_rules})
