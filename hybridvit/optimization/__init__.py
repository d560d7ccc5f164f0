"""Same outputs, faster: layers folded into each other, weights in the order that the machine multiplies in."""

from __future__ import annotations

import copy
from typing import Literal

import torch

from ..encoder import Encoder
from ..kernels import keep
from .compiled import apart, frozen_by_onednn
from .fold import folded
from .pointwise import with_linear_layers
from .precision import converted
from .quantize import is_quantized, to_int8
from .report import difference, folded_away

__all__ = ["difference", "folded", "optimize"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@torch.inference_mode(mode=False)  # where weights would not count their changes
def optimize(
    model: Encoder,
    *,
    fold: bool = True,
    dtype: torch.dtype | None = None,
    quantize: Literal["int8"] | None = None,
    compile: bool = False,
) -> Encoder:
    """A copy of a model for inference that gives the same outputs in less time. The original stays as it is.

    The copy is a model like any other: it is saved, loaded, pushed and exported, with its own, shorter spec. It is in
    eval mode and wants no gradients; call it under `torch.inference_mode()` or `torch.no_grad()`.
    `copy.optimizations` says what was done.

    Args:
        fold: batch norms, layer scales, standardised kernels and parallel convolutions become part of the layers next
            to them, and 1 x 1 convolutions linear layers. Outputs change by rounding only.
        dtype: of the weights and then of the images: `torch.bfloat16`, `float16`, `float32` or `float64`; by default
            it stays. On a CPU, biases of layers in bfloat16 stay in float32 where oneDNN adds them so.
        quantize: "int8" for linear layers, weights and inputs: approximate, and slow unless `compile` too. It needs
            torchao (`pip install "hybridvit[quantize]"`), and such a model cannot be saved.
        compile: by `torch.compile`, one graph for each size of images, when they first come: seconds to a minute each.
            On a CPU, weights are constants of it, so that later changes of theirs do not count.

    On a CPU, layers also keep a second copy of their weights, in the order that oneDNN multiplies in, and position
    biases of the last size of images. On CUDA, convolutions get their weights in channels_last.

    Raises:
        TypeError: for what is no model of this package, such as the result of `torch.compile`.
        ValueError: for a model on the `meta` device, for one whose layers are not those that its spec describes, for
            one that is quantized already, and for another `dtype` or `quantize`.
        ImportError: for `quantize` without torchao.
    """
    if not isinstance(model, Encoder):
        raise TypeError(f"expected a model of hybridvit, got {type(model).__name__}; optimize it before it is wrapped")
    if dtype is not None and dtype not in _DTYPES:
        raise ValueError(f"dtype is one of {', '.join(map(str, _DTYPES))}, not {dtype!r}")
    if quantize not in (None, "int8"):
        raise ValueError(f"quantize is None or 'int8', not {quantize!r}")
    if is_quantized(model):
        raise ValueError("the model is quantized already; optimize the one that it was made from")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("a model on the meta device has no weights to optimize; load it with values first")
    fast = folded(model) if fold else copy.deepcopy(model).eval().requires_grad_(False)
    done = folded_away(model, fast)
    if fold and quantize is None:  # in int8 they would cost a CNN more answers than all its linear layers
        fast = with_linear_layers(fast)
    if dtype is not None:
        fast = converted(fast, dtype)
        done.append(f"weights in {str(dtype).removeprefix('torch.')}")
    if quantize is not None:
        done.append(to_int8(fast))
    device = next(fast.parameters()).device
    if device.type == "cpu":
        keep(fast)
        done.append("weights and position biases kept as the CPU takes them")
    if device.type == "cuda":
        fast = fast.to(memory_format=torch.channels_last)
        done.append("convolutions in channels_last")
    if compile:
        backend = frozen_by_onednn(fast) if device.type == "cpu" else "inductor"
        fast.compile(dynamic=False, backend=backend, **apart())
        done.append("torch.compile, one graph a size")
    fast.optimizations = tuple(dict.fromkeys((*model.optimizations, *done)))
    return fast
