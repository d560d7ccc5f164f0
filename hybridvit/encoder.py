"""The one encoder that every model of the zoo runs on.

A model is a tuple of stages, a pool and a head. A stage enters through a transition, the only place where width or
grid change, may add prefix tokens and positions, and then runs blocks that keep the shape. The grid of a forward pass
is computed from the image at hand, so every model takes any height and width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .components.attention import attention_weights
from .components.blocks import Block, BlockModule, recomputed
from .components.functions import NoPosition
from .components.positions import PrefixTokens
from .preprocess import Preprocess
from .resolved import Resolved
from .spec import Grid, Head, Pool, Position, Spec, SpecError, Transition, naming
from .tokens import image_to_tokens, split_prefix, tokens_to_map


class Stage(Spec):
    """A transition, `prefix` learned tokens put in front, positions, then blocks."""

    enter: Transition
    blocks: tuple[Block, ...] = ()
    prefix: int = 0
    position: Position = NoPosition()

    def out_grid(self, grid: Grid) -> Grid:
        """Grid after the stage."""
        grid = self.enter.out_grid(grid)
        return grid._replace(prefix=grid.prefix + self.prefix)


class Model(Spec):
    """A whole architecture. `img_size` is the (height, width) that position and bias tables are built for."""

    may_be_zero = ("num_classes",)
    stages: tuple[Stage, ...]
    pool: Pool
    head: Head
    img_size: tuple[int, int] = (224, 224)
    in_chans: int = 3
    num_classes: int = 1000

    def build(self) -> Encoder:
        """The module, freshly initialised. Under `torch.device("meta")` no memory is used."""
        return Encoder(self)

    def build_head(self, dim: int) -> Any:
        """The classifier of embeddings of width `dim`; without classes, what leaves them as they are."""
        return self.head.build(dim, self.num_classes) if self.num_classes else nn.Identity()


class FeatureInfo(NamedTuple):
    """A feature map: its channels, its stride in pixels of the image, and the stage that it leaves."""

    channels: int
    stride: int
    stage: int


class StageModule(nn.Module):
    def __init__(self, spec: Stage, in_dim: int, grid: Grid) -> None:
        super().__init__()
        self.spec = spec
        self.checkpointing = False
        dim, out_grid = spec.enter.out_dim(in_dim), spec.out_grid(grid)
        self.enter = spec.enter.build(in_dim, grid)
        self.prefix = PrefixTokens(spec.prefix, dim) if spec.prefix else nn.Identity()
        self.position = spec.position.build(dim, out_grid)
        self.blocks = nn.ModuleList()
        for index, block in enumerate(spec.blocks):
            with naming(f"block {index}, "):
                self.blocks.append(block.build(dim, out_grid))

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        tokens = self.prefix(self.enter(tokens, grid))
        grid = self.spec.out_grid(grid)
        tokens = self.position(tokens, grid)
        for block in self.blocks:
            again = self.checkpointing and self.training
            tokens = recomputed(block, tokens, grid) if again else block(tokens, grid)
        return tokens, grid


class Encoder(nn.Module):
    """A built model: images (B, in_chans, H, W) of any height and width -> logits (B, num_classes).

    `preprocess`, `labels`, `origin` and `multi_label` (an image may have several) describe the weights and travel with
    them; `resolved` is what was loaded, `optimizations` what was done for speed, here. None changes a result.
    """

    def __init__(self, spec: Model) -> None:
        super().__init__()
        self.spec = spec
        self.preprocess: Preprocess | None = None
        self.labels: tuple[str, ...] | None = None
        self.origin: dict[str, Any] | None = None
        self.resolved: Resolved | None = None
        self.optimizations: tuple[str, ...] = ()
        self.multi_label, self.frozen_layers = False, 0
        self.held: list[nn.Module] = []  # modules that stay in eval mode while the others train
        self.stages = nn.ModuleList()
        self.feature_info: list[FeatureInfo] = []
        if not spec.stages:
            raise SpecError("a model needs at least one stage, the first of which takes the pixels to tokens")
        dim, stride, grid = spec.in_chans, 1, Grid(*spec.img_size)
        for index, stage in enumerate(spec.stages):
            with naming(f"stage {index}, "):
                self.stages.append(StageModule(stage, dim, grid))
            dim, stride, grid = stage.enter.out_dim(dim), stage.enter.out_stride(stride), stage.out_grid(grid)
            if self.feature_info and self.feature_info[-1].stride == stride:
                self.feature_info.pop()
            self.feature_info.append(FeatureInfo(dim, stride, index))
        self.num_features = spec.pool.out_dim(dim)
        with naming("pool: "):
            self.pool = spec.pool.build(dim, grid)
        self.head = spec.build_head(self.num_features)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """The vector that the classifier sees: (B, num_features)."""
        tokens, grid = image_to_tokens(self._checked(images))
        for stage in self.stages:
            tokens, grid = stage(tokens, grid)
        return self.pool(tokens, grid)

    def forward_head(self, embedding: Tensor) -> Tensor:
        """Logits (B, num_classes) of embeddings (B, num_features)."""
        return self.head(embedding)

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map of each stride, finest first: (B, C, h, w) as `feature_info` describes them."""
        tokens, grid = image_to_tokens(self._checked(images))
        wanted = {info.stage for info in self.feature_info}
        maps: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            tokens, grid = stage(tokens, grid)
            if index in wanted:
                maps.append(tokens_to_map(split_prefix(tokens, grid)[1], grid._replace(prefix=0)))
        return maps

    @torch.no_grad()
    def attention_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Weights (B, heads, queries, keys) of every attention by module name; prefix tokens come first.

        They are those of eval mode, whatever mode the model is in. Attention between channels shows channels (B, heads,
        d, d), and linear attention the shares that its sums amount to; a layer without weights of pairs has no map.
        """
        training = self.training
        self.eval()
        try:
            return attention_weights(self, lambda: self(images))
        finally:
            self.train(training)

    def layers(self) -> list[tuple[str, list[nn.Module]]]:
        """The model in order of depth: the entrance of each stage, each block, and last the pool with the head."""
        layers: list[tuple[str, list[nn.Module]]] = []
        for index, stage in enumerate(cast("Iterable[StageModule]", self.stages)):
            layers.append((f"stages.{index}", [stage.enter, stage.prefix, stage.position]))
            layers.extend((f"stages.{index}.blocks.{i}", [block]) for i, block in enumerate(stage.blocks))
        return [*layers, ("head", [self.pool, self.head])]

    def layer_parameters(self) -> list[tuple[str, dict[str, nn.Parameter]]]:
        """`layers`, each with its parameters by name: the groups of a layer-wise learning rate."""
        names = {parameter: name for name, parameter in self.named_parameters()}
        return [(layer, {names[p]: p for part in parts for p in part.parameters()}) for layer, parts in self.layers()]

    def freeze(self, count: int) -> None:
        """Freezes the first `count` of `layers()`, batch norm statistics included, and thaws the others."""
        layers = self.layers()
        if not 0 <= count <= len(layers):
            raise ValueError(f"cannot freeze {count} layers: the model has {len(layers)}")
        self.frozen_layers = count
        for index, (_, parts) in enumerate(layers):
            for part in parts:
                part.requires_grad_(index >= count)
        self.train(self.training)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        for module in (*self.held, *(part for _, parts in self.layers()[: self.frozen_layers] for part in parts)):
            module.eval()
        return self

    def set_drop_path(self, rate: float) -> None:
        """Stochastic depth while training: 0 in the first block, rising linearly to `rate` < 1 in the last.

        The residual branches of blocks are dropped, the entrances of stages never.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"drop path needs a rate of at least 0 and below 1, got {rate}")
        blocks = [block for stage in cast("Iterable[StageModule]", self.stages) for block in stage.blocks]
        for index, block in enumerate(cast("list[BlockModule]", blocks)):
            block.set_drop_path(rate * (index / max(len(blocks) - 1, 1)))

    def set_grad_checkpointing(self, enabled: bool = True) -> None:
        """Recomputes each block in the backward pass instead of keeping its activations. Results stay the same."""
        for stage in cast("Iterable[StageModule]", self.stages):
            stage.checkpointing = enabled

    def _checked(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.spec.in_chans:
            raise ValueError(
                f"expected images (batch, {self.spec.in_chans}, height, width), got {tuple(images.shape)}; "
                "create_model(..., in_chans=N) adapts a model to N channels"
            )
        grid = Grid(images.shape[2], images.shape[3])
        for index, stage in enumerate(self.spec.stages):
            grid = stage.out_grid(grid)
            if grid.height < 1 or grid.width < 1:
                raise ValueError(
                    f"images of {images.shape[2]} x {images.shape[3]} pixels are too small: nothing of them is left "
                    f"after stage {index}"
                )
        return images
