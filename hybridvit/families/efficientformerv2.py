"""EfficientFormerV2: convolutional blocks, and in the last two stages attention of talking heads (arXiv 2212.08059).

The third stage attends on a map of half the height and width.
"""

from torch import Tensor, nn

from .. import components as c
from ..layouts import normed_head_rules
from . import Family, Grid, KeyRules, Model, PerStage, Rename, Rule, Sizes, Stage, classifier, renames

HEADS, SCALE, LAYER = 8, 1e-5, c.Conv(dim=1, bias=True, norm=c.BatchNorm())


class LocalAttention(c.Transition):
    """Attention to values four times as wide as queries, plus a filter of each channel of these around the query.

    `query` makes the queries, of fewer positions if it strides.
    """

    query: c.Transition
    talking: bool = False
    norm: c.Norm | None = LAYER.norm

    def out_dim(self, in_dim: int) -> int:
        return 4 * self.query.out_dim(in_dim)

    def out_stride(self, in_stride: int) -> int:
        return self.query.out_stride(in_stride)


@c.module_of(LocalAttention)
class LocalAttentionModule(nn.Module):
    def __init__(self, spec: LocalAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.stride = spec.out_stride(1)
        key, value = (
            LAYER.replace(dim=width, norm=spec.norm) for width in (spec.query.out_dim(dim), spec.out_dim(dim))
        )
        self.query, self.key, self.value = (part.build(dim, grid) for part in (spec.query, key, value))
        self.local = value.replace(kernel=3, stride=self.stride, groups=value.dim).build(value.dim, grid)
        self.bias = c.DistanceBias().build(HEADS, grid)
        scale = (key.dim // HEADS) ** -0.5
        self.attend = c.TalkingHeads(scale, HEADS) if spec.talking else c.ScaledDotProduct(scale)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query, key, value = (part(tokens, grid) for part in (self.query, self.key, self.value))
        bias = self.bias(grid, step=self.stride).unsqueeze(0)
        return self.attend.in_heads(HEADS, query, key, value, bias) + self.local(value, grid)


class Coarsely(c.Transition):
    """A strided `body`, whose map is stretched by its stride, bilinearly, and cut to the size that it was."""

    body: c.Transition

    def out_dim(self, in_dim: int) -> int:
        return self.body.out_dim(in_dim)


@c.module_of(Coarsely)
class CoarselyModule(nn.Module):
    def __init__(self, spec: Coarsely, dim: int, grid: Grid) -> None:
        super().__init__()
        self.spec, self.body = spec.body, spec.body.build(dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        coarse, stride = self.spec.out_grid(grid), self.spec.out_stride(1)
        whole = Grid(stride * coarse.height, stride * coarse.width)
        return c.crop_map(c.resize_map(self.body(tokens, grid), coarse, whole), whole, grid)


def efficientformerv2(*, dims: PerStage, ratios: tuple[str, ...], attending: int) -> Model:
    """An EfficientFormerV2 of given widths; so many blocks at the end of each of the last two stages are `attending`.

    `ratios` have a digit a block: how many times wider it is inside its MLP.
    """
    stages: list[Stage] = []
    for index, (dim, digits) in enumerate(zip(dims, ratios, strict=True)):
        down, last = LAYER.replace(dim=dim, kernel=3, stride=2), (c.Activate(act="gelu"), LAYER.replace(dim=dim))
        stem = down.replace(act="gelu")
        enter: c.Transition = down if index else c.Steps(steps=(stem.replace(dim=dim // 2), stem))
        attend: c.Transition = LocalAttention(query=LAYER.replace(dim=32 * HEADS), talking=True)
        if index == 2:
            attend = Coarsely(body=c.Steps(steps=(down.replace(groups=dim), attend)))
        if index == 3:
            around = c.Conv(dim=dims[2], kernel=3, stride=2, groups=dims[2], bias=True)
            asking = c.Add(shortcut=c.MaxPool(kernel=1, padding=0), body=around)  # that is, every second position
            shrink = LocalAttention(query=c.Steps(steps=(asking, LAYER.replace(dim=16 * HEADS))))
            enter = c.Add(shortcut=down, body=c.Steps(steps=(shrink, *last)))
        mixing, blocks = c.Branch(mixer=c.Steps(steps=(attend, *last)), layer_scale=SCALE), list[c.Block]()
        for b, ratio in enumerate(map(int, digits)):
            wide = LAYER.replace(dim=ratio * dim, act="gelu")
            mlp = c.Steps(steps=(wide, wide.replace(kernel=3, groups=wide.dim), last[1]))
            attends = index > 1 and b >= len(digits) - attending
            blocks.append(c.Block(branches=(mixing,) * attends + (c.Branch(mixer=mlp, layer_scale=SCALE),)))
        stages.append(Stage(enter=enter, blocks=tuple(blocks)))
    return classifier(stages, c.MeanPool(norm=LAYER.norm), head=c.NormedHead(count=2))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    rules: list[Rule] = [*normed_head_rules("head", "head_dist", layer=""), Rename("norm", "pool.norm")]

    def add(theirs: str, ours: str, parts: str) -> None:
        rules.extend(renames(theirs, ours, parts, lambda their, our: Rename(f"{their}.bn", f"{our}.norm")))
        rules.extend(renames(theirs, ours, parts))

    attends = "k=key v=value v_local=local attention_biases=bias.table talking_head1=attend.before "
    attends += "talking_head2=attend.after q.local=query.steps.0.body.conv"
    add("stem", "stages.0.enter.steps", "conv1=0 conv2=1")
    add("stages.3.downsample", "stages.3.enter", "conv=shortcut attn.proj=body.steps.2")
    add("stages.3.downsample.attn", "stages.3.enter.body.steps.0", f"q.proj=query.steps.1 {attends}")
    add("stages.{s}.downsample", "stages.{s}", "conv=enter")
    for s, b, block in ((s, b, block) for s, stage in enumerate(model.stages) for b, block in enumerate(stage.blocks)):
        theirs, ours, mlp = f"stages.{s}.blocks.{b}", f"stages.{s}.blocks.{b}.branches", len(block.branches) - 1
        add(f"{theirs}.mlp", f"{ours}.{mlp}.mixer.steps", "fc1=0 mid=1 fc2=2")
        add(theirs, ours, f"ls2.gamma={mlp}.layer_scale ls1.gamma=0.layer_scale")
        add(f"{theirs}.token_mixer", f"{ours}.0.mixer.steps", "proj=2 stride_conv=0.body.steps.0")
        place = f"{ours}.0.mixer.steps.0{'.body.steps.1' * (s == 2)}"
        add(f"{theirs}.token_mixer", place, f"q=query {attends}")
    return KeyRules(rules)


SIZES: Sizes = {
    f"efficientformerv2_{name}": {"dims": dims, "ratios": ratios, "attending": attending}
    for name, dims, ratios, attending in (
        ("s0", (32, 48, 96, 176), ("44", "44", "433344", "4334"), 2),
        ("s1", (32, 48, 120, 224), ("444", "444", "443333444", "443344"), 2),
        ("s2", (32, 64, 144, 288), ("4444", "4444", "443333334444", "44333344"), 4),
        ("l", (40, 80, 192, 384), ("44444", "44444", "444433333334444", "4443333444"), 6),
    )
}
FAMILY = Family("efficientformerv2", "arXiv 2212.08059", efficientformerv2, SIZES, {"timm": timm_rules})
