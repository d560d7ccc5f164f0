"""The copies that an eval forward pass makes, by the module and the operation that make them.

    python -m tests.copies

writes `tests/copies.json` anew: how many each model makes of each kind, and what each kind is for. A kind that is new
there has no reason yet: write it, or remove the copy.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler import profile, record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from hybridvit.encoder import Encoder
from tests.parity import images
from tests.representatives import freshly_built, representatives

FILE = Path(__file__).parent / "copies.json"
# All that moves values and computes none ends in one of these: `contiguous`, `clone`, `to`, `flatten`, `repeat` and
# `pad` in the first.
MOVES = ("aten::copy_", "aten::cat", "aten::roll", "aten::index_select", "aten::gather")
MODULE, OPERATIONS = "module ", ("aten::", "mkldnn::")


@contextmanager
def modules_named() -> Iterator[None]:
    """The profiler sees which module runs, though none has a hook of its own, for then it would not run its kernels."""
    running: list[record_function] = []

    def enter(module: nn.Module, *_: object) -> None:
        running.append(record_function(MODULE + type(module).__name__))
        running[-1].__enter__()

    def leave(*_: object) -> None:
        running.pop().__exit__(None, None, None)

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def copies(model: Encoder, size: tuple[int, int]) -> Counter[str]:
    """How many copies of each kind, "module: operation", a forward pass of two images makes on one thread.

    Not counted are single numbers, and what is kept from one pass to the next. On several threads torch gives other
    convolutions to oneDNN.
    """
    batch = images(*size)[:2]
    with torch.inference_mode(), one_thread():
        model(batch)
        # A profiler, for whoever dispatches gets PyTorch's own operations instead of oneDNN's.
        watch = profile(record_shapes=True)
        with watch, modules_named():
            model(batch)
    moves = [event for event in watch.function_events or () if event.name in MOVES]
    return Counter(map(kind, filter(lambda event: event.name != "aten::copy_" or numbers(event) > 1, moves)))


def numbers(event: FunctionEvent) -> int:
    shape: list[int] = event.input_shapes[0]  # pyright: ignore[reportAssignmentType]
    return math.prod(shape)


def kind(event: FunctionEvent) -> str:
    """The operation that a copy is part of, as the program calls it, and the innermost module that does."""
    operation, outer = event.name, event.cpu_parent
    while outer is not None and not outer.name.startswith(MODULE):
        operation = outer.name if outer.name.startswith(OPERATIONS) else operation
        outer = outer.cpu_parent
    return f"{outer.name.removeprefix(MODULE) if outer else 'no module'}: {operation.removeprefix('aten::')}"


def recorded() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"reasons": {}, "models": {}}


def counted(name: str) -> Counter[str]:
    """Of a representative, shortened."""
    model = freshly_built(name, narrow=False)  # how oneDNN stores activations depends on their width
    return copies(model, model.spec.img_size)


def main() -> None:
    models = {name: dict(sorted(counted(name).items())) for name in representatives()}
    before = recorded()["reasons"]
    kinds = sorted({kind for found in models.values() for kind in found})
    data = {"reasons": {kind: before.get(kind, "") for kind in kinds}, "models": models}
    FILE.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
