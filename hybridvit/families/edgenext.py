"""EdgeNeXt: ConvNeXt's blocks, and one at the end of a stage that attends between channels (arXiv 2206.10589)."""

import torch
from torch import Tensor, nn

from .. import components as c
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, SpecError, Stage, classifier, conv_to_linear, renames

KERNELS, SCALES, POSITION_STAGE = (3, 5, 7, 9), (2, 2, 3, 4), 1
NORM, LAYER_SCALE = c.LayerNorm(), 1e-6


class Cascade(c.Mixer):
    """Filters `parts` of the channels one after another, each with what came out of the one before added to it.

    The last part passes by. As in Res2Net (arXiv 1904.01169), positions so see each other over several distances.
    """

    parts: int
    bias: bool = True


@c.module_of(Cascade)
class CascadeModule(nn.Module):
    def __init__(self, spec: Cascade, dim: int, grid: Grid) -> None:
        super().__init__()
        self.width = c.fewer(dim, spec.parts)
        if (spec.parts - 1) * self.width >= dim:
            raise SpecError(f"{spec.kind}: {dim} channels do not make {spec.parts} parts of {self.width}")
        filters = c.Conv(dim=self.width, kernel=3, groups=self.width, bias=spec.bias)
        self.convs = nn.ModuleList(filters.build(self.width, grid) for _ in range(spec.parts - 1))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        *parts, last = tokens.split(self.width, dim=2)
        done: list[Tensor] = []
        for conv, part in zip(self.convs, parts, strict=True):
            done.append(conv(part + done[-1] if done else part, grid))
        return torch.cat([*done, last], dim=2)


class Placed(c.Mixer):
    """Positions, where a mixer is expected."""

    position: c.Position

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        return self.position.build(in_dim, grid)


def edgenext(*, dims: PerStage, depths: PerStage, heads: int = 8, overlap: bool = False) -> Model:
    """An EdgeNeXt of given widths and depths. `overlap`: strided filters, without biases, instead of patches."""

    def block(local: c.Transition, dim: int) -> c.Block:
        body = c.Steps(steps=(local, c.Normalize(norm=NORM), c.Mlp(hidden=4 * dim)))
        return c.residual_block(body, layer_scale=LAYER_SCALE)

    stages: list[Stage] = []
    for index, (dim, depth, kernel, scales) in enumerate(zip(dims, depths, KERNELS, SCALES, strict=True)):
        filters = c.Conv(dim=dim, kernel=kernel, groups=dim, bias=not overlap)
        channels = c.CrossCovarianceAttention(heads=heads)
        attend = c.Steps(steps=(c.Normalize(norm=NORM), channels, c.LayerScale(initial=LAYER_SCALE)))
        position = Placed(position=c.FourierPosition()) if index == POSITION_STAGE else c.Identity()
        cascade = Cascade(parts=scales, bias=not overlap)
        transposed = c.Steps(steps=(cascade, position, c.Add(body=attend)))
        locals_: list[c.Transition] = [filters] * depth
        if index == 0:
            enter = c.Conv(dim=dim, kernel=9, stride=4, norm=NORM) if overlap else c.summaries(dim, 4, NORM)
        else:
            locals_[-1] = transposed
            enter = c.Steps(steps=(c.Normalize(norm=NORM), c.summaries(dim, 2, None)))
            if overlap:
                enter, locals_[0] = filters.replace(stride=2, groups=dims[index - 1]), c.Identity()
        stages.append(Stage(enter=enter, blocks=tuple(block(local, dim) for local in locals_)))
    return classifier(stages, c.MeanPool(post_norm=NORM), img_size=256)


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    overlap = isinstance(model.stages[0].enter, c.Conv)
    stem = "stages.0.enter" if overlap else "stages.0.enter.steps.1"
    block, ours = "stages.{s}.blocks.{b}", "stages.{s}.blocks.{b}.branches.0"
    attention = "norm_xca=0.norm xca.temperature=1.factor xca=1 gamma_xca=2.gamma"
    rules = renames("stem", stem, "0=conv 1=norm")
    rules += renames("stages.{s}.downsample", "stages.{s}.enter.steps", "0=0.norm 1=1.steps.1.conv")
    if overlap:
        rules += renames("stages.{s+1}", "stages.{s+1}", "blocks.0.conv_dw=enter.conv")
    rules += renames(block, f"{ours}.mixer.steps.0", "conv_dw=conv convs.{i}=steps.0.convs.{i}.conv")
    rules.append(conv_to_linear(f"{block}.pos_embd.token_projection", f"{ours}.mixer.steps.0.steps.1.proj"))
    rules += renames(block, f"{ours}.mixer.steps.0.steps.2.body.steps", attention)
    rules += renames(block, ours, "norm=mixer.steps.1.norm mlp=mixer.steps.2 gamma=layer_scale")
    return KeyRules(rules, renames("head", "", "norm=pool.post_norm fc=head"))


DEPTHS = (3, 3, 9, 3)
SIZES: Sizes = {
    "edgenext_xx_small": {"dims": (24, 48, 88, 168), "depths": (2, 2, 6, 2), "heads": 4},
    "edgenext_x_small": {"dims": (32, 64, 100, 192), "depths": DEPTHS, "heads": 4},
    "edgenext_small": {"dims": (48, 96, 160, 304), "depths": DEPTHS},
    "edgenext_base": {"dims": (80, 160, 288, 584), "depths": DEPTHS},
    "edgenext_small_rw": {"dims": (48, 96, 192, 384), "depths": DEPTHS, "overlap": True},
}
FAMILY = Family("edgenext", "arXiv 2206.10589", edgenext, SIZES, {"timm": timm_rules})
