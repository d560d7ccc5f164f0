"""ConvFormer and CAFormer: a pyramid of separable convolutions, and of attention at its end (arXiv 2210.13452)."""

from torch import Tensor, nn

from .. import components as c
from . import Family, KeyRules, Model, PerStage, Rename, Sizes, Stage, classifier, linear_to_conv, renames

HEAD_WIDTH, UNBIASED = 32, c.LayerNorm(bias=False)


class MlpHead(c.Head):
    """Two linear layers with a squared ReLU and a norm between them."""


@c.module_of(MlpHead)
class MlpHeadModule(nn.Module):
    def __init__(self, spec: MlpHead, dim: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = c.linear(dim, 4 * dim)
        self.norm = nn.LayerNorm(4 * dim, eps=1e-6)
        self.fc2 = c.linear(4 * dim, num_classes)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.fc2(self.norm(self.fc1(embedding).relu().square()))


def inverted(dim: int, hidden: int, act: c.Mixer, *middle: c.Transition, bias: bool = False) -> c.Steps:
    """Expand, activate, what there is in the middle, project."""
    return c.Steps(steps=(c.Conv(dim=hidden, bias=bias), act, *middle, c.Conv(dim=dim, bias=bias)))


def pyramid(
    dims: PerStage, depths: PerStage, mixers: list[c.Transition], norm: c.Norm = UNBIASED, scale: float | None = None
) -> tuple[Stage, ...]:
    """The stages of a MetaFormer of given widths, depths and mixers. The last two learn a scale of their shortcuts.

    With a layer `scale`, the first version: GELU, biases everywhere, no norm at the entrances, no scale of shortcuts.
    """
    first = scale is not None
    act = c.Activate(act="gelu") if first else c.StarRelu()
    normalize = c.Identity() if first else c.Normalize(norm=UNBIASED)
    stages: list[Stage] = []
    for dim, depth, mixer in zip(dims, depths, mixers, strict=True):
        down = c.Steps(steps=(normalize, c.Conv(dim=dim, kernel=3, stride=2, bias=True)))
        stem = c.Conv(dim=dim, kernel=7, stride=4, padding=2, bias=True, norm=None if first else UNBIASED)
        scaled = len(stages) >= 2 and not first
        mix = c.Branch(mixer=mixer, norm=norm, layer_scale=scale, shortcut_scale=scaled)
        block = c.Block(branches=(mix, mix.replace(mixer=inverted(dim, 4 * dim, act, bias=first))))
        stages.append(Stage(enter=down if stages else stem, blocks=(block,) * depth))
    return tuple(stages)


def metaformer(*, dims: PerStage, depths: PerStage, attending: int) -> Model:
    """A ConvFormer of given widths and depths, or, with some last stages `attending`, a CAFormer."""
    convs = [inverted(dim, 2 * dim, c.StarRelu(), c.Conv(dim=2 * dim, kernel=7, groups=2 * dim)) for dim in dims]
    attentions = [c.Attention(heads=dim // HEAD_WIDTH, qkv_bias=False, proj_bias=False) for dim in dims]
    first = len(dims) - attending
    stages = pyramid(dims, depths, [*convs[:first], *attentions[first:]])
    return classifier(stages, c.MeanPool(post_norm=c.LayerNorm()), head=MlpHead())


def timm_rules(model: Model) -> KeyRules:
    """timm's layout. MLPs of stages that attend are linear layers there, all others convolutions."""
    block, ours = "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches"
    mixers = "pwconv1=steps.0.conv act1=steps.1 dwconv=steps.2.conv pwconv2=steps.3.conv qkv proj"
    rules = renames("", "", "stem=stages.0.enter head.norm=pool.post_norm head.fc=head")
    rules += renames("stages.{s}.downsample", "stages.{s}.enter.steps", "norm=0.norm conv=1.conv")
    rules += renames(f"{block}.token_mixer", f"{ours}.0.mixer", mixers)
    rules += renames(block, ours, "norm1=0.norm layer_scale1.scale=0.layer_scale res_scale1.scale=0.shortcut_scale")
    rules += renames(block, ours, "norm2=1.norm layer_scale2.scale=1.layer_scale res_scale2.scale=1.shortcut_scale")
    for s, stage in enumerate(model.stages):
        make = linear_to_conv if isinstance(stage.blocks[0].branches[0].mixer, c.Attention) else Rename
        theirs, mlp = f"stages.{s}.blocks.{{b}}.mlp", f"stages.{s}.blocks.{{b}}.branches.1.mixer.steps"
        rules += renames(theirs, mlp, "fc1=0.conv act=1 fc2=2.conv", make)
    return KeyRules(rules)


DEEP = {"depths": (3, 12, 18, 3)}
SIZES: Sizes = {
    f"{kind}_{name}": numbers | {"attending": attending}
    for kind, attending in (("convformer", 0), ("caformer", 2))
    for name, numbers in (
        ("s18", {"dims": (64, 128, 320, 512), "depths": (3, 3, 9, 3)}),
        ("s36", {"dims": (64, 128, 320, 512)} | DEEP),
        ("m36", {"dims": (96, 192, 384, 576)} | DEEP),
        ("b36", {"dims": (128, 256, 512, 768)} | DEEP),
    )
}
FAMILY = Family("metaformer", "arXiv 2210.13452", metaformer, SIZES, {"timm": timm_rules})
