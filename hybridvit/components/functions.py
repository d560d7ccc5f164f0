"""Parts without parameters."""

from torch import Tensor, nn

from ..spec import Grid, Position, Spec, Transition, module_of


class Function(Spec):
    """A part that is a function of tokens and grid: its module calls `apply`, and keeps nothing."""

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        """(tokens, grid) -> tokens."""
        raise NotImplementedError


@module_of(Function)
class FunctionModule(nn.Module):
    def __init__(self, spec: Function, dim: int, grid: Grid) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        return self.spec.apply(tokens, grid)

    def extra_repr(self) -> str:
        return str(self.spec)


class Identity(Function, Transition):
    """Changes nothing: the entrance of a stage that goes on where the last one ended."""

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return tokens


class NoPosition(Function, Position):
    """Leaves it to convolutions and to the attention to know where a token is."""

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return tokens


class DropPrefix(Function, Transition):
    """Leaves the prefix tokens behind, in front of what works on the map."""

    def out_grid(self, grid: Grid) -> Grid:
        return Grid(*grid.size)

    def apply(self, tokens: Tensor, grid: Grid) -> Tensor:
        return tokens[:, grid.prefix :].contiguous()
