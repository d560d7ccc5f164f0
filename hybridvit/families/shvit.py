"""SHViT: one head of attention over a part of the channels (arXiv 2401.16456)."""

import torch
from torch import Tensor, nn

from .. import components as c
from ..layouts import excite_rules, normed_head_rules, normed_renames
from . import Family, Grid, KeyRules, Model, PerStage, Sizes, SpecError, Stage, classifier, renames

NORM, AT_0, PART_NORM, KEY_DIM = c.BatchNorm(), c.BatchNorm(zero_init=True), c.GroupNorm(groups=1), 16


class PartAttention(c.Mixer):
    """Attention of one head over the first `part` channels; a layer then mixes these with the others."""

    part: int
    norm: c.Norm | None = NORM


@c.module_of(PartAttention)
class PartAttentionModule(nn.Module):
    def __init__(self, spec: PartAttention, dim: int, grid: Grid) -> None:
        super().__init__()
        part = spec.part
        if part >= dim:
            raise SpecError(f"{spec.kind}: {part} channels are no part of {dim}")
        self.widths = [part, dim - part], [KEY_DIM, KEY_DIM, part]
        self.norm = PART_NORM.build(part)
        self.qkv = c.Linear(dim=sum(self.widths[1]), bias=not spec.norm, norm=spec.norm).build(part, grid)
        self.attend = c.ScaledDotProduct(KEY_DIM**-0.5)
        self.proj = c.Linear(dim=dim, bias=not spec.norm, norm=spec.norm and AT_0).build(dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        part, others = tokens.split(self.widths[0], dim=2)
        heads = self.qkv(self.norm(part), grid).unsqueeze(1).split(self.widths[1], dim=3)
        return self.proj(torch.cat([self.attend(*heads).squeeze(1), others], dim=2).relu(), grid)


def shvit(*, dims: PerStage, parts: PerStage, depths: PerStage) -> Model:
    """An SHViT of given widths, numbers of attending channels (0: a stage does not attend) and depths."""

    def both(dim: int) -> list[c.Add]:
        return [c.Add(body=c.Conv(dim=dim, kernel=3, groups=dim, norm=NORM)), c.Add(body=c.conv_mlp(dim, "relu"))]

    stages: list[Stage] = []
    for index, (dim, part, depth) in enumerate(zip(dims, parts, depths, strict=True)):
        attend = (c.Branch(mixer=PartAttention(part=part)),) if part else ()
        first = c.Branch(mixer=c.Conv(dim=dim, kernel=3, groups=dim, norm=AT_0))
        last = c.Branch(mixer=c.conv_mlp(dim, "relu"))
        enter = c.doubling_stem(dim, 16, NORM, "relu")
        if index:
            before = dims[index - 1]
            enter = c.Steps(steps=(*both(before), c.excited_merge(before, dim), *both(dim)))
        stages.append(Stage(enter=enter, blocks=(c.Block(branches=(first, *attend, last)),) * depth))
    return classifier(stages, c.MeanPool(), head=c.NormedHead(norm=NORM))


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    down, enter, two = "stages.{s}.downsample", "stages.{s}.enter.steps", "m.pw1=body.steps.0 m.pw2=body.steps.1"
    rules = normed_head_rules("head", layer="l") + excite_rules(f"{down}.2.se", f"{enter}.2.steps.2")
    rules += normed_renames("patch_embed", "stages.0.enter.steps", "0=0 2=1 4=2 6=3")
    rules += normed_renames(down, enter, "0.m=0.body 3.m=3.body 2.conv1=2.steps.0 2.conv2=2.steps.1 2.conv3=2.steps.3")
    for step in (1, 4):
        rules += normed_renames(f"{down}.{step}", f"{enter}.{step}", two)
    for s, stage in enumerate(model.stages):
        theirs, ours = f"stages.{s}.blocks.{{b}}", f"stages.{s}.blocks.{{b}}.branches"
        last = len(stage.blocks[0].branches) - 1
        rules += normed_renames(theirs, ours, "conv.m=0.mixer")
        rules += normed_renames(f"{theirs}.ffn.m", f"{ours}.{last}.mixer.steps", "pw1=0 pw2=1")
        rules += normed_renames(f"{theirs}.mixer.m", f"{ours}.1.mixer", "qkv proj.1=proj", linear=True)
        rules += renames(f"{theirs}.mixer.m", f"{ours}.1.mixer", "pre_norm=norm")
    return KeyRules(rules)


SIZES: Sizes = {
    "shvit_s1": {"dims": (128, 224, 320), "parts": (0, 48, 68), "depths": (2, 4, 5)},
    "shvit_s2": {"dims": (128, 308, 448), "parts": (0, 66, 96), "depths": (2, 4, 5)},
    "shvit_s3": {"dims": (192, 352, 448), "parts": (0, 75, 96), "depths": (3, 5, 5)},
    "shvit_s4": {"dims": (224, 336, 448), "parts": (0, 72, 96), "depths": (4, 7, 6), "img_size": 256},
}
FAMILY = Family("shvit", "arXiv 2401.16456", shvit, SIZES, {"timm": timm_rules})
