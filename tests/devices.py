"""A GPU without a GPU: tensors on `cuda` that have no memory, and a watch over what a real one would stumble on.

PyTorch's fake tensors say on which device they are and give no values. They refuse most mixtures of devices, but not
all: a number or an index on the CPU passes, and on a GPU each is a copy that the program waits for and that no CUDA
graph can hold. So the watch sees every operation.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parent.parent
OURS = tuple(str(ROOT / part) for part in ("hybridvit", "tests"))
READ, NOTHING = torch.ops.aten._local_scalar_dense.default, torch.ops.prim.device.default
ASKS = (DataDependentOutputException, DynamicOutputShapeException)


class Fault(NamedTuple):
    """What a GPU stumbles on: a value is `read`, a tensor `copied` between devices, or computed with `elsewhere`."""

    kind: str
    operation: str
    line: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.operation} at {self.line}"


class Watch(TorchDispatchMode):
    """Notes the faults of what runs inside, each once a line.

    With an `answer` a value that is asked for is that, and the program goes on.
    """

    def __init__(self, device: str, answer: float | None = None) -> None:
        super().__init__()
        self.device, self.answer = device, answer
        self.faults: list[Fault] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is NOTHING:
            return func(*args)
        taken = devices((args, kwargs))
        if func is READ and self.device in taken:
            self.note("read", func)
            if self.answer is not None:
                return self.answer
        try:
            given = func(*args, **(kwargs or {}))
        except ASKS:
            self.note("read", func)
            raise
        met = taken | devices(given)
        if met - {self.device}:
            self.note("copied" if self.device in met else "elsewhere", func)
        return given

    def note(self, kind: str, func: Any) -> None:
        self.faults.append(Fault(kind, str(func), our_line()))


def devices(data: Any) -> set[str]:
    """The devices of all tensors in it."""
    return {leaf.device.type for leaf in tree_leaves(data) if isinstance(leaf, Tensor)}


def our_line() -> str:
    """The innermost line of this project that is running, this file left out."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS) and name != __file__:
            return f"{Path(name).relative_to(ROOT)}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return "no line of ours"


def faults(run: Callable[[], object], device: str = "cuda") -> list[str]:
    """The faults of a function that is to stay on one device; at a value that it needs to go on, it ends."""
    with contextlib.suppress(*ASKS), Watch(device) as watch:
        run()
    return list(dict.fromkeys(map(str, watch.faults)))


@contextlib.contextmanager
def fake_gpu(*modules: nn.Module) -> Iterator[None]:
    """Tensors that are made inside have no memory, and `cuda` is a device. Autocast is told that it is there.

    To that device go modules that were built on `meta`.
    """
    common = torch.cuda.amp.common
    with (
        FakeTensorMode(allow_non_fake_inputs=True) as mode,
        mock.patch.object(common, "amp_definitely_not_available", return_value=False),
        mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True),
    ):
        for module in modules:  # `to_empty` does the same in ten times the time
            module._apply(lambda tensor: FakeTensor(mode, tensor.data, torch.device("cuda", 0)))
        yield
