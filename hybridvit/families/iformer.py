"""iFormer: ConvNeXt's blocks with batch norms, and groups of blocks whose one head is gated (arXiv 2501.15369)."""

from torch import Tensor, nn

from .. import components as c
from ..layouts import map_to_vector, normed_head_rules, normed_renames
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, Stage, classifier

NORM = c.BatchNorm()


class GatedAttention(c.Mixer):
    """Attention of one head of `key_dim` channels; values pass a sigmoid, and another part of them is a gate."""

    key_dim: int
    norm: c.Norm | None = NORM


@c.module_of(GatedAttention)
class GatedAttentionModule(nn.Module):
    def __init__(self, spec: GatedAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        widths = (spec.key_dim, spec.key_dim, 2 * dim, dim)
        layers = (c.Linear(dim=width, bias=not spec.norm, norm=spec.norm).build(dim, grid) for width in widths)
        self.query, self.key, self.value_gate, self.proj = layers
        self.attend = c.ScaledDotProduct(spec.key_dim**-0.5)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        value, gate = self.value_gate(tokens, grid).sigmoid().chunk(2, dim=2)
        mixed = self.attend.in_heads(1, self.query(tokens, grid), self.key(tokens, grid), value)
        return self.proj(mixed * gate, grid)


def iformer(
    *,
    dims: PerStage,
    depths: PerStage,
    groups: PerStage,
    conv_ratio: int = 4,
    mlp_ratio: int = 3,
    reductions: PerStage = (0, 0, 2, 4),
    layer_scale: float | None = None,
    distilled: bool = False,
) -> Model:
    """An iFormer of given widths and depths. A group that attends counts as three; a stage has so many `groups`.

    Of its other blocks all but one come before them. `reductions` are of the width of the head.
    """

    def stage(index: int, dim: int) -> Stage:
        def mlp(ratio: int) -> tuple[c.Conv, c.Conv]:
            return c.Conv(dim=ratio * dim, norm=NORM, act="gelu"), c.Conv(dim=dim, norm=NORM)

        filters = c.Conv(dim=dim, kernel=7, groups=dim, norm=NORM)
        conv = c.residual_block(c.Steps(steps=(filters, *mlp(conv_ratio))), layer_scale=layer_scale)
        place, convs = c.Branch(mixer=filters.replace(kernel=3)), depths[index] - 3 * groups[index]
        enter = filters.replace(kernel=3, stride=2, groups=1)
        if not index:
            first = c.Conv(dim=dim // 2, kernel=5, stride=2, norm=NORM, act="gelu")
            enter = c.Steps(steps=(first, first.replace(dim=2 * dim), c.Conv(dim=dim, norm=NORM)))
        if not groups[index]:
            return Stage(enter=enter, blocks=(conv,) * convs)
        attention = c.Branch(mixer=GatedAttention(key_dim=dim // reductions[index]), layer_scale=layer_scale)
        last_mlp = attention.replace(mixer=c.Steps(steps=mlp(mlp_ratio)))
        group = c.Block(branches=(place, attention, last_mlp))
        last = (conv,) * (convs > 0)
        return Stage(enter=enter, blocks=((conv,) * (convs - 1)) + (group,) * groups[index] + last)

    stages = (stage(index, dim) for index, dim in enumerate(dims))
    return classifier(stages, c.MeanPool(), head=c.NormedHead(norm=NORM, count=1 + distilled))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, in which every branch is a block."""
    rules = normed_head_rules("head.head", "head.head_dist", layer="l")
    rules += normed_renames("stem", "stages.0.enter.steps", "conv1=0 conv2=1 conv3=2")
    rules += normed_renames("", "", "stages.{s}.downsample=stages.{s}.enter")
    for s, stage in enumerate(model.stages):
        branches = ((b, *numbered) for b, block in enumerate(stage.blocks) for numbered in enumerate(block.branches))
        for count, (b, i, branch) in enumerate(branches):
            theirs, ours = f"stages.{s}.blocks.{count}", f"stages.{s}.blocks.{b}.branches.{i}"
            rules.append(map_to_vector(f"{theirs}.mixer.gamma", f"{ours}.layer_scale", (1,)))
            if isinstance(branch.mixer, GatedAttention):
                parts = "q=query k=key v_gate=value_gate proj"
                rules += normed_renames(f"{theirs}.mixer.module", f"{ours}.mixer", parts, linear=True)
            elif isinstance(branch.mixer, c.Steps):
                parts = "0=0 1=1 3=2" if len(branch.mixer.steps) == 3 else "0=0 2=1"
                rules += normed_renames(f"{theirs}.mixer.module", f"{ours}.mixer.steps", parts)
            else:
                rules += normed_renames(theirs, ours, "cpe.module=mixer")
    return KeyRules(rules)


SIZES: Sizes = {
    f"iformer_{name}": {"dims": dims, "depths": (n, n, *depths), "groups": (0, 0, *groups)}
    for name, dims, n, depths, groups in (
        ("t", (32, 64, 128, 256), 2, (16, 6), (3, 2)),
        ("s", (32, 64, 176, 320), 2, (19, 6), (3, 2)),
        ("m", (48, 96, 192, 384), 2, (22, 6), (4, 2)),
        ("l", (48, 96, 256, 384), 2, (33, 6), (8, 2)),
        ("l2", (64, 128, 256, 512), 3, (46, 9), (11, 3)),
        ("h", (96, 192, 384, 768), 5, (60, 18), (15, 6)),
    )
}
SIZES["iformer_t"] |= {"conv_ratio": 3, "mlp_ratio": 2}
SIZES["iformer_h"] |= {"mlp_ratio": 4, "reductions": (0, 0, 1, 1), "layer_scale": 1e-6}
SIZES |= {f"iformer_{name}_distilled": SIZES[f"iformer_{name}"] | {"distilled": True} for name in ("m", "l", "l2")}
FAMILY = Family("iformer", "arXiv 2501.15369", iformer, SIZES, {"timm": timm_rules})
