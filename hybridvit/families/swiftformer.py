"""SwiftFormer: convolutions, and attention that adds up one query for the whole image (arXiv 2303.15446)."""

import torch
from torch import Tensor, nn

from .. import components as c
from ..layouts import map_to_vector, normed_head_rules
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, Stage, classifier, renames

NORM = c.BatchNorm()
CONVS = "dwconv=steps.0.conv norm=steps.0.norm pwconv1=steps.1.conv pwconv2=steps.2.conv"


class AdditiveAttention(c.Mixer):
    """Every key is multiplied with one query, the sum of all queries by a learned score or, not `scored`, as they are.

    The scores are of length 1 over the positions, not a softmax, and are no map of what a position takes from another.
    """

    scored: bool = True


@c.module_of(AdditiveAttention)
class AdditiveAttentionModule(nn.Module):
    def __init__(self, spec: AdditiveAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        self.query, self.key, self.proj, self.last = (c.linear(dim, dim) for _ in range(4))
        self.score = nn.Parameter(torch.randn(dim, 1)) if spec.scored else None

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        query, key = (c.unit(layer(tokens)) for layer in (self.query, self.key))
        scores = 1.0 if self.score is None else c.unit(query @ self.score * tokens.shape[2] ** -0.5, dim=1)
        whole = (scores * query).sum(dim=1, keepdim=True)
        return self.last(self.proj(whole * key) + query)


def conv_encoder(dim: int, hidden: int) -> c.Branch:
    """Filter each channel, norm, then two layers on each position."""
    filters = c.Conv(dim=dim, kernel=3, groups=dim, bias=True, norm=NORM)
    layers = (c.Conv(dim=hidden, bias=True, act="gelu"), c.Conv(dim=dim, bias=True))
    return c.Branch(mixer=c.Steps(steps=(filters, *layers)), layer_scale=1.0)


def swiftformer(*, dims: PerStage, depths: PerStage, scored: bool = True) -> Model:
    """A SwiftFormer of given widths and depths; the last block of each stage attends.

    The weights that its authors first released, which transformers has, are of a network that is not `scored`.
    """
    stages: list[Stage] = []
    for dim, depth in zip(dims, depths, strict=True):
        down = c.Conv(dim=dim, kernel=3, stride=2, bias=True, norm=NORM)
        relu = down.replace(act="relu")
        mlp = c.Steps(steps=(c.Conv(dim=4 * dim, bias=True, act="gelu"), c.Conv(dim=dim, bias=True)))
        attend = c.Branch(mixer=AdditiveAttention(scored=scored), layer_scale=1e-5)
        last = c.Block(branches=(conv_encoder(dim, dim), attend, attend.replace(mixer=mlp, norm=NORM)))
        enter = down if stages else c.Steps(steps=(relu.replace(dim=dim // 2), relu))
        block = c.Block(branches=(conv_encoder(dim, 4 * dim),))
        stages.append(Stage(enter=enter, blocks=(*(block,) * (depth - 1), last)))
    return classifier(stages, c.MeanPool(norm=NORM), head=c.NormedHead(count=2))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    rules = renames("stem", "stages.0.enter.steps", "0=0.conv 1=0.norm 3=1.conv 4=1.norm")
    for s, stage in enumerate(model.stages):
        last, theirs, ours = len(stage.blocks) - 1, f"stages.{s}.blocks.{{b}}", f"stages.{s}.blocks.{{b}}.branches"
        local = f"stages.{s}.blocks.{last}.local_representation", f"stages.{s}.blocks.{last}.branches"
        for their, our in (local, (theirs, ours)):
            rules += renames(their, f"{our}.0.mixer", CONVS)
            rules.append(map_to_vector(f"{their}.layer_scale.gamma", f"{our}.0.layer_scale"))
        rules += renames(f"stages.{s}.downsample", f"stages.{s}.enter", "proj=conv norm")
        rules += renames(f"{theirs}.attn", f"{ours}.1.mixer", "to_query=query to_key=key w_g=score proj final=last")
        rules += renames(f"{theirs}.linear", f"{ours}.2", "norm1=norm fc1=mixer.steps.0.conv fc2=mixer.steps.1.conv")
        scales = "layer_scale_1.gamma=1.layer_scale layer_scale_2.gamma=2.layer_scale"
        rules += renames(theirs, ours, scales, map_to_vector)
    return KeyRules(rules, renames("", "", "norm=pool.norm"), normed_head_rules("head", "head_dist", layer=""))


SIZES: Sizes = {
    "swiftformer_xs": {"dims": (48, 56, 112, 220), "depths": (3, 3, 6, 4)},
    "swiftformer_s": {"dims": (48, 64, 168, 224), "depths": (3, 3, 9, 6)},
    "swiftformer_l1": {"dims": (48, 96, 192, 384), "depths": (4, 3, 10, 5)},
    "swiftformer_l3": {"dims": (64, 128, 320, 512), "depths": (4, 4, 12, 6)},
}
SIZES |= {f"{name}_unscored": size | {"scored": False} for name, size in SIZES.items()}
FAMILY = Family("swiftformer", "arXiv 2303.15446", swiftformer, SIZES, {"timm": timm_rules})
