"""Linear layers and activations on a CPU, in one kernel where nobody needs what lies between.

torch's own linear layer adds the bias and applies the activation in passes of their own, and multiplies by another
library than its convolutions do. oneDNN, which comes with torch, does all of it in one kernel that `torch.compile` uses
too. It knows no gradients, so training, and whatever traces a model, takes torch's functions instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F

Act = Callable[[Tensor], Tensor]


def unchanged(x: Tensor) -> Tensor:
    """No activation."""
    return x


def quick_gelu(x: Tensor) -> Tensor:
    """An approximation of GELU by the logistic function (arXiv 1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Act] = {
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}

# An activation as oneDNN calls it: name, numbers, algorithm.
_FUSED: dict[Act, tuple[str, list[float], str]] = {
    unchanged: ("none", [], ""),
    ACTIVATIONS["gelu"]: ("gelu", [], "none"),
    ACTIVATIONS["gelu_tanh"]: ("gelu", [], "tanh"),
    ACTIVATIONS["relu"]: ("relu", [], ""),
    ACTIVATIONS["relu6"]: ("hardtanh", [0.0, 6.0], ""),
    ACTIVATIONS["silu"]: ("swish", [], ""),
    ACTIVATIONS["hard_swish"]: ("hardswish", [], ""),
    ACTIVATIONS["sigmoid"]: ("sigmoid", [], ""),
    ACTIVATIONS["tanh"]: ("tanh", [], ""),
}


_IN_PLACE: dict[Act, Act] = {
    ACTIVATIONS["gelu"]: torch.ops.aten.gelu_,
    ACTIVATIONS["gelu_tanh"]: functools.partial(torch.ops.aten.gelu_, approximate="tanh"),
    ACTIVATIONS["relu"]: torch.relu_,
    ACTIVATIONS["relu6"]: functools.partial(F.relu6, inplace=True),
    ACTIVATIONS["silu"]: functools.partial(F.silu, inplace=True),
    ACTIVATIONS["hard_swish"]: functools.partial(F.hardswish, inplace=True),
}


@functools.cache
def _dtypes() -> tuple[torch.dtype, ...]:
    """Of which oneDNN has kernels on this machine that torch can call."""
    available = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if not (available and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return ()
    fast = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)()
    return (torch.float32, torch.bfloat16) if fast else (torch.float32,)


def plain(*tensors: Tensor) -> bool:
    """Whether these are numbers on a CPU that nobody differentiates, traces, casts or counts."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if traced or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    differentiates = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor.device.type != "cpu" or type(tensor) not in (Tensor, nn.Parameter):
            return False
        if differentiates and tensor.requires_grad:
            return False
    return torch._C._len_torch_dispatch_stack() == 0 and peek_interpreter_stack() is None


def fits_one_kernel(tokens: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN may multiply these."""
    return tokens.dtype == weight.dtype and tokens.dtype in _dtypes() and plain(tokens, weight)


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None, act: Act = unchanged) -> Tensor:
    """act(tokens @ weight.T + bias): tokens (..., C), weight (D, C), bias (D) -> (..., D)."""
    if act in _FUSED and fits_one_kernel(tokens, weight):
        return torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, *_FUSED[act])
    return act(F.linear(tokens, weight, bias))


class Linear(nn.Linear):
    """A linear layer that `linear` computes."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class PointwiseConv2d(nn.Conv2d):
    """A convolution of 1 x 1 at stride 1, on maps (B, C, H, W) that are views of tokens: a linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        if not fits_one_kernel(input, self.weight):
            return super().forward(input)
        return linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def activated(layer: nn.Module, act: Act, input: Tensor) -> Tensor:
    """act(layer(input)), in one kernel or at least in the memory of one, unless somebody listens to the layer."""
    if act is unchanged or layer._forward_hooks or layer._forward_pre_hooks:
        return act(layer(input))
    if type(layer) is Linear:
        return linear(input, layer.weight, layer.bias, act)
    if type(layer) is PointwiseConv2d and fits_one_kernel(input, layer.weight):
        tokens = input.permute(0, 2, 3, 1)
        return linear(tokens, layer.weight.flatten(1), layer.bias, act).permute(0, 3, 1, 2)
    output = layer(input)
    in_place = not torch.is_grad_enabled() and output.data_ptr() != input.data_ptr() and act in _IN_PLACE
    return _IN_PLACE[act](output) if in_place else act(output)


def batch_norm(layer: nn.BatchNorm2d, tokens: Tensor) -> Tensor | None:
    """What the layer makes of tokens (..., C) in eval mode, by one multiplication and addition.

    None where torch's own kernel is to do it: on a GPU, in half precision, for training and for whoever follows.
    """
    mean, variance = layer.running_mean, layer.running_var
    single = tokens.dtype == layer.weight.dtype == torch.float32
    if mean is None or variance is None or not single or not plain(tokens):
        return None
    scale = layer.weight * torch.rsqrt(variance + layer.eps)
    return torch.addcmul(torch.addcmul(layer.bias, mean, scale, value=-1), tokens, scale)


def squared_relu(tokens: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """scale * relu(tokens)^2 + bias, in the memory of the first result if nobody differentiates."""
    positive = tokens.relu()
    if torch.is_grad_enabled():
        return scale * positive.square() + bias
    return positive.square_().mul_(scale).add_(bias)


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Computes in the precision that tensors have."""
    # Autocast knows no meta device.
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


MOST_SCORES = 2**24  # of two plain products, whose scores lie in memory


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale * q k^T + bias) v: queries (B, heads, N, d), keys (B, heads, M, d), values (B, heads, M, e).

    torch's fused kernel, except where two plain products are faster on a CPU: where values are wider than keys, which
    the kernel does not take, and in bfloat16, unless there are so many scores that their memory matters.
    """
    unfused = query.shape[3] != value.shape[3] or query.dtype == torch.bfloat16
    if unfused and plain(query, key, value) and query.numel() // query.shape[3] * key.shape[2] <= MOST_SCORES:
        scores = (query * scale) @ key.transpose(2, 3)
        return (scores if bias is None else scores.add_(bias)).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
