"""SHViT: one head of attention over a part of the channels (arXiv 2401.16456)."""

import torch
from torch import Tensor, nn

from ..components import BatchNorm, Block, Branch, Conv, GroupNorm, Linear, MeanPool, NormedHead, ScaledDotProduct
from ..components.convblocks import doubling_stem, excite_quarter
from ..components.transitions import Add, Identity, Steps
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename
from ..layouts import excite_rules, normed_head_rules, normed_rules
from ..spec import Grid, Mixer
from . import Family, Sizes

NORM, AT_0, PART_NORM, KEY_DIM = BatchNorm(), BatchNorm(zero_init=True), GroupNorm(groups=1), 16


class PartAttention(Mixer):
    """Attention of one head over the first `part` channels; a layer then mixes these with the others."""

    part: int

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        return PartAttentionModule(self.part, in_dim, grid)


class PartAttentionModule(nn.Module):
    def __init__(self, part: int, dim: int, grid: Grid) -> None:
        super().__init__()
        self.widths = [part, dim - part], [KEY_DIM, KEY_DIM, part]
        self.norm = PART_NORM.build(part)
        self.qkv = Linear(dim=sum(self.widths[1]), bias=False, norm=NORM).build(part, grid)
        self.attend = ScaledDotProduct(KEY_DIM**-0.5)
        self.proj = Linear(dim=dim, bias=False, norm=AT_0).build(dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        part, others = tokens.split(self.widths[0], dim=2)
        heads = self.qkv(self.norm(part), grid).unsqueeze(1).split(self.widths[1], dim=3)
        return self.proj(torch.cat([self.attend(*heads).squeeze(1), others], dim=2).relu(), grid)


def shvit(*, dims: tuple[int, ...], parts: tuple[int, ...], depths: tuple[int, ...], img_size: int = 224) -> Model:
    """An SHViT of given widths, numbers of attending channels (0: a stage does not attend) and depths."""
    stages: list[Stage] = []
    for index, (dim, part, depth) in enumerate(zip(dims, parts, depths, strict=True)):

        def filters(dim: int) -> Conv:
            return Conv(dim=dim, kernel=3, groups=dim, norm=NORM)

        def mlp(dim: int) -> Steps:
            return Steps(steps=(Conv(dim=2 * dim, norm=NORM, act="relu"), Conv(dim=dim, norm=AT_0)))

        def both(dim: int) -> list[Add]:
            return [Add(shortcut=Identity(), body=body) for body in (filters(dim), mlp(dim))]

        attend = (Branch(mixer=PartAttention(part=part)),) if part else ()
        block = Block(branches=(Branch(mixer=filters(dim).replace(norm=AT_0)), *attend, Branch(mixer=mlp(dim))))
        enter = doubling_stem(dim, 16, NORM, "relu")
        if index:
            before = dims[index - 1]
            wide = Conv(dim=4 * before, norm=NORM, act="relu")
            strided = wide.replace(kernel=3, stride=2, groups=4 * before)
            merge = Steps(steps=(wide, strided, excite_quarter(4 * before), Conv(dim=dim, norm=NORM)))
            enter = Steps(steps=(*both(before), merge, *both(dim)))
        stages.append(Stage(enter=enter, blocks=(block,) * depth))
    size = (img_size, img_size)
    return Model(stages=tuple(stages), pool=MeanPool(), head=NormedHead(norm=NORM), img_size=size)


SIZES: Sizes = {
    "shvit_s1": {"dims": (128, 224, 320), "parts": (0, 48, 68), "depths": (2, 4, 5)},
    "shvit_s2": {"dims": (128, 308, 448), "parts": (0, 66, 96), "depths": (2, 4, 5)},
    "shvit_s3": {"dims": (192, 352, 448), "parts": (0, 75, 96), "depths": (3, 5, 5)},
    "shvit_s4": {"dims": (224, 336, 448), "parts": (0, 72, 96), "depths": (4, 7, 6), "img_size": 256},
}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout."""
    down, enter = "stages.{s}.downsample", "stages.{s}.enter.steps"
    parts = {f"patch_embed.{2 * step}": f"stages.0.enter.steps.{step}" for step in range(4)}
    parts |= {f"{down}.{step}.m": f"{enter}.{step}.body" for step in (0, 3)}
    for step in (1, 4):
        parts |= {f"{down}.{step}.m.pw{layer + 1}": f"{enter}.{step}.body.steps.{layer}" for layer in (0, 1)}
    parts |= {f"{down}.2.conv{layer}": f"{enter}.2.steps.{step}" for layer, step in ((1, 0), (2, 1), (3, 3))}
    rules = excite_rules(f"{down}.2.se", f"{enter}.2.steps.2")
    layers: dict[str, str] = {}
    for s, stage in enumerate(model.stages):
        theirs, ours = f"stages.{s}.blocks.{{b}}", f"stages.{s}.blocks.{{b}}.branches"
        last = len(stage.blocks[0].branches) - 1
        parts[f"{theirs}.conv.m"] = f"{ours}.0.mixer"
        parts |= {f"{theirs}.ffn.m.pw{layer + 1}": f"{ours}.{last}.mixer.steps.{layer}" for layer in (0, 1)}
        layers |= {f"{theirs}.mixer.m.qkv": f"{ours}.1.mixer.qkv", f"{theirs}.mixer.m.proj.1": f"{ours}.1.mixer.proj"}
        rules.append(Rename(f"{theirs}.mixer.m.pre_norm", f"{ours}.1.mixer.norm"))
    return KeyRules(
        [*rules, *normed_rules(parts), *normed_rules(layers, linear=True), *normed_head_rules("head", layer="l")]
    )


FAMILY = Family(name="shvit", paper="arXiv 2401.16456", build=shvit, sizes=SIZES, layouts={"timm": timm_rules})
