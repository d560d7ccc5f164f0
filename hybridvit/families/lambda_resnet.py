"""Lambda ResNet: some blocks sum up the map in a linear function for each position (arXiv 2102.08602)."""

from functools import partial

from torch import Tensor, nn

from .. import components as c
from . import Family, Grid, KeyRules, Model, Rename, Rule, Sizes, SpecError, renames
from .botnet import T26, TS50, attention_resnet, bodies
from .botnet import timm_rules as botnet_rules


class LambdaLayer(c.Mixer):
    """Each position's queries, one a head, are put into its lambda, a matrix (key_dim, channels of a head).

    A lambda sums up the values of the map, each times its key, a softmax over positions and so the same for all
    queries, and times a vector of its offset: from a table, or in a neighbourhood of `kernel` x `kernel` alone. No
    position weighs another by a softmax, so there is no attention map to see.
    """

    kernel: int | None = None
    heads: int = 4
    key_dim: int = 16


@c.module_of(LambdaLayer, prefix=False)
class LambdaModule(nn.Module):
    def __init__(self, spec: LambdaLayer, dim: int, grid: Grid) -> None:
        super().__init__()
        self.heads, self.local = spec.heads, spec.kernel is not None
        self.widths = [spec.heads * spec.key_dim, spec.key_dim, c.head_width(spec.kind, dim, spec.heads)]
        self.qkv = c.linear(dim, sum(self.widths), bias=False)
        self.q_norm, self.v_norm = (c.BatchNorm().build(width) for width in self.widths[::2])
        if spec.kernel is None:
            self.positions = c.RelativePositionBias().build(spec.key_dim, grid)
        elif spec.kernel % 2 == 0:
            raise SpecError(f"{spec.kind}: a neighbourhood of {spec.kernel} x {spec.kernel} has no middle")
        else:
            self.positions = nn.Conv2d(1, spec.key_dim, spec.kernel, padding=spec.kernel // 2)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query, key, value = self.qkv(tokens).split(self.widths, dim=2)
        query, value = self.q_norm(query).unflatten(2, (self.heads, -1)), self.v_norm(value)
        content = key.softmax(dim=1).transpose(1, 2) @ value
        if self.local:
            channels = c.tokens_to_map(value, grid).flatten(0, 1).unsqueeze(1)
            positions = self.positions(channels).unflatten(0, (-1, value.shape[2])).flatten(3).permute(0, 3, 2, 1)
        else:  # the table is by the offset from the asking position; a map turned round has that to it
            positions = (self.positions(grid).flatten(0, 1) @ value.flip(1)).unflatten(1, (-1, value.shape[1]))
            positions = positions.flip(2).transpose(1, 2)
        return (query @ (content.unsqueeze(1) + positions)).flatten(2)  # (B, N, heads, key_dim) @ (B, N, key_dim, d)


def reshaped(theirs: str, ours: str, first: int, sizes: tuple[int, int]) -> Rename:
    """Dimension `first` of ours is two of theirs, of the given sizes."""
    return Rename(theirs, ours, lambda t: t.flatten(first, first + 1), lambda t: t.unflatten(first, sizes))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, where the convolution of a lambda layer is one in three dimensions, and a table is by axis."""
    rules: list[Rule] = []
    for theirs, ours, grid in bodies(model):
        places = f"{theirs}.self_attn", f"{ours}.1.positions"
        rows = 2 * grid.height - 1
        rules += renames(*places, "pos_emb=table", partial(reshaped, first=0, sizes=(rows, -1)))
        rules += renames(*places, "conv_lambda.weight=weight", partial(reshaped, first=3, sizes=(-1, 1)))
        rules += renames(*places, "conv_lambda.bias=bias")
    return KeyRules(rules, botnet_rules(model).rules)


LOCAL = {"attentions": {"a": LambdaLayer(kernel=9)}}
MIXED = {"l": LambdaLayer(kernel=13), "h": c.HaloAttention(halo=3), "b": c.BottleneckAttention()}
SIZES: Sizes = {
    "lambda_resnet26t": T26 | LOCAL,
    "lambda_resnet26rpt_256": T26 | {"attentions": {"a": LambdaLayer()}},
    "lambda_resnet50ts": TS50 | LOCAL,
    "lamhalobotnet50ts_256": {"blocks": "ccc clcl chchch cbc", "stem": "strided", "attentions": MIXED},
}
FAMILY = Family("lambda_resnet", "arXiv 2102.08602", attention_resnet, SIZES, {"timm": timm_rules})
