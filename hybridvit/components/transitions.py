"""Transitions that compose others, and those that make one token of several."""

import torch
from torch import Tensor, nn

from ..kernels import Conv2d, activated, star_relu
from ..spec import Around, Grid, Halving, Mixer, Norm, SpecError, Transition, Widening, module_of, naming
from ..tokens import join_prefix, map_to_tokens, tokens_to_map
from .activations import activation, linear
from .functions import Function, Identity
from .windows import pad_map, to_windows, whole_windows


class Steps(Transition):
    """One transition after another."""

    steps: tuple[Transition, ...]

    def out_dim(self, in_dim: int) -> int:
        for step in self.steps:
            in_dim = step.out_dim(in_dim)
        return in_dim

    def out_grid(self, grid: Grid) -> Grid:
        for step in self.steps:
            grid = step.out_grid(grid)
        return grid

    def out_stride(self, in_stride: int) -> int:
        for step in self.steps:
            in_stride = step.out_stride(in_stride)
        return in_stride


@module_of(Steps)
class StepsModule(nn.Module):
    def __init__(self, spec: Steps, dim: int, grid: Grid) -> None:
        super().__init__()
        self.spec = spec
        self.steps = nn.ModuleList()
        for index, step in enumerate(spec.steps):
            with naming(f"step {index}: "):
                self.steps.append(step.build(dim, grid))
            dim, grid = step.out_dim(dim), step.out_grid(grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        for spec, step in zip(self.spec.steps, self.steps, strict=True):
            tokens = step(tokens, grid)
            grid = spec.out_grid(grid)
        return tokens


class Add(Around):
    """The sum of two transitions of the same input: a residual connection, also across a change of shape."""

    shortcut: Transition = Identity()


@module_of(Add)
class AddModule(nn.Module):
    def __init__(self, spec: Add, dim: int, grid: Grid) -> None:
        super().__init__()
        sides = spec.shortcut, spec.body
        shapes = [(side.out_dim(dim), side.out_grid(grid), side.out_stride(1)) for side in sides]
        if shapes[0] != shapes[1]:
            raise SpecError(f"Add: the shortcut gives width, grid and stride {shapes[0]}, the body {shapes[1]}")
        self.shortcut, self.body = (side.build(dim, grid) for side in sides)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return self.shortcut(tokens, grid) + self.body(tokens, grid)


class Subtract(Add):
    """What the body gives beyond the shortcut."""


@module_of(Subtract)
class SubtractModule(AddModule):
    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return self.body(tokens, grid) - self.shortcut(tokens, grid)


class Join(Transition):
    """Transitions of the same input, their channels side by side."""

    parts: tuple[Transition, ...]

    def out_dim(self, in_dim: int) -> int:
        return sum(part.out_dim(in_dim) for part in self.parts)

    def out_grid(self, grid: Grid) -> Grid:
        return self.parts[0].out_grid(grid)

    def out_stride(self, in_stride: int) -> int:
        return self.parts[0].out_stride(in_stride)


@module_of(Join)
class JoinModule(nn.Module):
    def __init__(self, spec: Join, dim: int, grid: Grid) -> None:
        super().__init__()
        shapes = {(part.out_grid(grid), part.out_stride(1)) for part in spec.parts}
        if len(shapes) != 1:
            raise SpecError(f"Join: its parts give the grids and strides {sorted(shapes)}")
        self.parts = nn.ModuleList(part.build(dim, grid) for part in spec.parts)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return torch.cat([part(tokens, grid) for part in self.parts], dim=-1)


class Normalize(Mixer):
    """A norm, then an optional activation, where a transition or mixer is expected."""

    norm: Norm
    act: str | None = None


@module_of(Normalize)
class NormalizeModule(nn.Module):
    def __init__(self, spec: Normalize, dim: int, grid: Grid) -> None:
        super().__init__()
        self.norm = spec.norm.build(dim)
        self.act = activation(spec.act)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return activated(self.norm, self.act, tokens)


class Activate(Function, Mixer):
    """An activation where a transition or mixer is expected, as after the sum of a ResNet block."""

    act: str

    def build(self, in_dim: int, grid: Grid) -> nn.Module:
        activation(self.act)  # an unknown one is an error of the model, not of its first images
        return super().build(in_dim, grid)

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return activation(self.act)(tokens)


class StarRelu(Mixer):
    """scale * relu(x)^2 + bias with a learned scale and bias, one number each (arXiv 2210.13452)."""


@module_of(StarRelu)
class StarReluModule(nn.Module):
    def __init__(self, spec: StarRelu, dim: int, grid: Grid) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return star_relu(tokens, self.scale, self.bias)


class InFront(Transition):
    """Puts what `summary` makes of the map in front of it, as prefix tokens."""

    summary: Transition

    def out_grid(self, grid: Grid) -> Grid:
        return grid._replace(prefix=self.summary.out_grid(grid).tokens)


@module_of(InFront, prefix=False)
class InFrontModule(nn.Module):
    def __init__(self, spec: InFront, dim: int, grid: Grid) -> None:
        super().__init__()
        self.summary = spec.summary.build(dim, grid)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return join_prefix(self.summary(tokens, grid), tokens)


class AtLeast(Function, Transition):
    """Zeros on the right and at the bottom of a map with fewer than `side` positions along an axis.

    In front of a convolution that drops a border narrower than its kernel, it keeps small maps from vanishing.
    """

    takes_prefix = False
    side: int

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(max(grid.height, self.side), max(grid.width, self.side), grid.prefix)

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return pad_map(tokens, grid, self.out_grid(grid))


class Patchify(Widening):
    """One linear map of each patch of `patch` x `patch` positions (arXiv 2010.11929).

    Sizes that the patch does not divide are padded with zeros on the right and at the bottom, so no pixel is lost.
    """

    patch: int
    bias: bool = True
    norm: Norm | None = None

    def out_stride(self, in_stride: int) -> int:
        return in_stride * self.patch


@module_of(Patchify, prefix=False)
class PatchifyModule(nn.Module):
    def __init__(self, spec: Patchify, in_dim: int, grid: Grid) -> None:
        super().__init__()
        self.conv = Conv2d(in_dim, spec.dim, spec.patch, spec.patch, bias=spec.bias)
        nn.init.trunc_normal_(self.conv.weight, std=(in_dim * spec.patch**2) ** -0.5)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm = spec.norm.build(spec.dim) if spec.norm else nn.Identity()

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        whole = whole_windows(grid, Grid(*self.conv.kernel_size))
        return self.norm(map_to_tokens(self.conv(tokens_to_map(pad_map(tokens, grid, whole), whole))))


class PatchMerging(Halving):
    """One linear map of each square of four tokens, side by side (arXiv 2103.14030). `norm` comes before it.

    Odd sizes are padded with zeros on the right and at the bottom.
    """

    norm: Norm | None = None


@module_of(PatchMerging, prefix=False)
class PatchMergingModule(nn.Module):
    def __init__(self, spec: PatchMerging, in_dim: int, grid: Grid) -> None:
        super().__init__()
        self.norm = spec.norm.build(4 * in_dim) if spec.norm else nn.Identity()
        self.reduction = linear(4 * in_dim, spec.dim, bias=False)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        square = Grid(2, 2)
        whole = whole_windows(grid, square)
        squares = to_windows(pad_map(tokens, grid, whole), whole, square)
        # Released weights have the four column by column.
        merged = squares.unflatten(1, square.size).transpose(1, 2).flatten(1)
        return self.reduction(self.norm(merged)).unflatten(0, (tokens.shape[0], whole.height // 2 * (whole.width // 2)))
