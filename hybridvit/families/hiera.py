"""Hiera: a pyramid of plain transformer blocks, in windows at first, that shrinks by pooling (arXiv 2306.00989).

The `abswin` models repeat a position table for one window over a coarser one for the image (2311.05613).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..components.activations import linear
from ..components.attention import Attention, ScaledDotProduct, head_width
from ..components.blocks import Block, Branch, transformer_block
from ..components.convs import AvgPool, Conv, MaxPool, refuse_prefix
from ..components.heads import LinearHead
from ..components.mixers import LayerScale, Linear, Mlp
from ..components.norms import LayerNorm
from ..components.pools import MeanPool
from ..components.positions import LearnedPosition
from ..components.transitions import Add, Identity, Join, Normalize, Steps
from ..components.windows import WindowAttention, crop_map, from_windows, pad_map, to_windows, whole_windows
from ..encoder import Model, Stage
from ..keys import KeyRules, Rename, Rule
from ..spec import Grid, Position, Transition
from ..tokens import map_to_tokens
from . import Family

NORM = LayerNorm(eps=1e-6)
HALVED: dict[str, Any] = {"kernel": 2, "stride": 2, "padding": "same"}


class PoolingAttention(Transition):
    """Attention whose queries are the maxima of squares of four positions, inside windows of `window` positions a side.

    Without a window it is over the whole map.
    """

    dim: int
    heads: int
    window: int | None

    def out_dim(self, in_dim: int) -> int:
        return self.dim

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(-(-grid.height // 2), -(-grid.width // 2))

    def out_stride(self, in_stride: int) -> int:
        return 2 * in_stride

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        refuse_prefix(self.kind, grid)
        return PoolingAttentionModule(self, in_dim)


class PoolingAttentionModule(nn.Module):
    def __init__(self, spec: PoolingAttention, in_dim: int) -> None:
        super().__init__()
        self.spec, self.heads = spec, spec.heads
        self.qkv = linear(in_dim, 3 * spec.dim)
        self.attend = ScaledDotProduct(head_width(spec.kind, spec.dim, spec.heads) ** -0.5)
        self.proj = linear(spec.dim, spec.dim)
        self.pool = MaxPool(**HALVED).build(spec.dim, Grid(1, 1))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        window = Grid(self.spec.window, self.spec.window) if self.spec.window else grid
        whole = whole_windows(grid, window)
        query, *rest = self.qkv(to_windows(pad_map(tokens, grid, whole), whole, window)).chunk(3, dim=2)
        heads = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.pool(query, window), *rest))
        mixed = self.proj(self.attend(*heads).transpose(1, 2).flatten(2))
        halves = self.spec.out_grid(whole), self.spec.out_grid(window)
        return crop_map(from_windows(mixed, *halves), halves[0], self.spec.out_grid(grid))


class WindowedPosition(Position):
    """A learned table of `coarse` positions for the image, resized, and one of `window` positions, repeated over it."""

    coarse: int
    window: int

    def build(self, dim: int, grid: Grid) -> nn.Module:
        return WindowedPositionModule(self, dim)


class WindowedPositionModule(nn.Module):
    def __init__(self, spec: WindowedPosition, dim: int) -> None:
        super().__init__()
        self.coarse = nn.Parameter(torch.empty(1, dim, spec.coarse, spec.coarse))
        self.window = nn.Parameter(torch.empty(1, dim, spec.window, spec.window))
        for table in (self.coarse, self.window):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        coarse = F.interpolate(self.coarse.float(), size=grid.size, mode="bicubic", antialias=True).to(tokens.dtype)
        counts = [-(-size // self.window.shape[-1]) for size in grid.size]
        window = self.window.tile(1, 1, *counts)[:, :, : grid.height, : grid.width]
        return tokens + map_to_tokens(coarse + window)


def hiera(
    *,
    dim: int,
    depths: tuple[int, ...],
    heads: int = 1,
    img_size: int = 224,
    coarse: int | None = None,
    layer_scale: float | None = None,
    expand: bool = True,
) -> Model:
    """A Hiera of given first width and depths. `coarse`: the side of the image's table, if windows have one.

    Shortcuts across stages are `expand`ed by a layer; otherwise maximum and mean stand side by side.
    """
    stages: list[Stage] = []
    for index, depth in enumerate(depths):
        width, count, window = dim << index, heads << index, 8 >> index
        mixer = Attention(heads=count)
        windowed = WindowAttention(attention=mixer, window=(window, window))
        block = transformer_block(windowed if index < 2 else mixer, Mlp(hidden=4 * width), NORM, layer_scale)
        enter: Transition = Conv(dim=width, kernel=7, stride=4, bias=True)
        position = WindowedPosition(coarse=coarse, window=8) if coarse else LearnedPosition()
        if not index:
            stages.append(Stage(enter=enter, position=position, blocks=(block,) * depth))
            continue
        first, pool = Normalize(norm=NORM), MaxPool(**HALVED)
        scale = Identity() if layer_scale is None else LayerScale(initial=layer_scale)
        # The window that pools is that of the stage before.
        pooling = PoolingAttention(dim=width, heads=count, window=2 * window if index < 3 else None)
        body = Steps(steps=(pooling, scale))
        wide = Steps(steps=(first, Add(shortcut=Steps(steps=(Linear(dim=width), pool)), body=body)))
        both = Add(shortcut=Join(parts=(pool, AvgPool())), body=Steps(steps=(first, body)))
        mlp = Block(branches=(Branch(mixer=Mlp(hidden=4 * width), norm=NORM, layer_scale=layer_scale),))
        stages.append(Stage(enter=wide if expand else both, blocks=(mlp, *(block,) * (depth - 1))))
    size = (img_size, img_size)
    return Model(stages=tuple(stages), pool=MeanPool(post_norm=NORM), head=LinearHead(), img_size=size)


SIZES: dict[str, dict[str, Any]] = {
    "hiera_tiny_224": {"dim": 96, "depths": (1, 2, 7, 2)},
    "hiera_small_224": {"dim": 96, "depths": (1, 2, 11, 2)},
    "hiera_base_224": {"dim": 96, "depths": (2, 3, 16, 3)},
    "hiera_base_plus_224": {"dim": 112, "depths": (2, 3, 16, 3), "heads": 2},
    "hiera_large_224": {"dim": 144, "depths": (2, 6, 36, 4), "heads": 2},
    "hiera_huge_224": {"dim": 256, "depths": (2, 6, 36, 4), "heads": 4},
}
ABSWIN: dict[str, Any] = {"img_size": 256, "layer_scale": 1e-5}
SIZES["hiera_small_abswin_256"] = SIZES["hiera_small_224"] | ABSWIN | {"coarse": 16, "expand": False}
SIZES["hiera_base_abswin_256"] = SIZES["hiera_base_224"] | ABSWIN | {"coarse": 14}


def timm_rules(model: Model) -> KeyRules:
    """timm's layout, which counts blocks across stages; the first of a stage is our entrance and MLP."""
    rules: list[Rule] = []
    blocks = [(s, b) for s, stage in enumerate(model.stages) for b in range(len(stage.blocks))]
    for count, (s, b) in enumerate(blocks):
        ours, enter = f"stages.{s}.blocks.{b}.branches", f"stages.{s}.enter"
        places = {"norm1": f"{ours}.0.norm", "attn": f"{ours}.0.mixer", "ls1.gamma": f"{ours}.0.layer_scale"}
        if s < 2:
            places["attn"] = f"{ours}.0.mixer.attention"
        if s and not b:
            expand = isinstance(model.stages[s].enter, Steps)
            norm, body = ("steps.0", "steps.1.body") if expand else ("body.steps.0", "body.steps.1")
            places = {"norm1": f"{enter}.{norm}.norm", "proj": f"{enter}.steps.1.shortcut.steps.0.linear"}
            places |= {"attn": f"{enter}.{body}.steps.0", "ls1.gamma": f"{enter}.{body}.steps.1.gamma"}
        last = f"{ours}.{int(not s or b > 0)}"
        places |= {"norm2": f"{last}.norm", "mlp": f"{last}.mixer", "ls2.gamma": f"{last}.layer_scale"}
        rules += [Rename(f"blocks.{count}.{theirs}", place) for theirs, place in places.items()]
    table = "coarse" if isinstance(model.stages[0].position, WindowedPosition) else "table"
    names = {
        "patch_embed.proj": "stages.0.enter.conv",
        "pos_embed": f"stages.0.position.{table}",
        "pos_embed_win": "stages.0.position.window",
        "head.norm": "pool.post_norm",
        "head.fc": "head",
    }
    return KeyRules([*rules, *(Rename(*pair) for pair in names.items())])


FAMILY = Family(name="hiera", paper="arXiv 2306.00989", build=hiera, sizes=SIZES, layouts={"timm": timm_rules})
