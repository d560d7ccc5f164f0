"""Modules without memory, for what follows from a spec alone: shapes, costs, and what a checkpoint must hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _NothingToFill(TorchFunctionMode):
    """Passes over the initialisation of tensors without memory, most of the time that building on `meta` takes."""

    # A tensor's methods, and those functions of `nn.init` that a mode sees; to these it comes by name.
    fills = frozenset({"uniform_", "normal_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_"})
    fills |= {"constant_", "kaiming_uniform_"}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in self.fills:
            filled = args[0] if args else kwargs.get("tensor")
            if isinstance(filled, Tensor) and filled.is_meta:
                return filled
        return func(*args, **kwargs)


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """What is built inside, on the `meta` device, has names and shapes and no values."""
    with torch.device("meta"), _NothingToFill():
        yield
