"""Linear layers and activations on a CPU, in one kernel where nobody needs what lies between.

torch's own linear layer adds the bias and applies the activation in passes of their own, and multiplies by another
library than its convolutions do. oneDNN, which comes with torch, does all of it in one kernel that `torch.compile` uses
too. It knows no gradients, so training, and whatever traces a model, takes torch's functions instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
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


def gelu_tanh(x: Tensor) -> Tensor:
    """An approximation of GELU by the hyperbolic tangent (arXiv 1606.08415)."""
    return F.gelu(x, approximate="tanh")  # a function, for a copy of a `functools.partial` is not what it copies


def quick_gelu(x: Tensor) -> Tensor:
    """An approximation of GELU by the logistic function (arXiv 1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Act] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
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


def watched() -> bool:
    """Whether somebody traces, maps or counts what is computed."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if traced or torch.compiler.is_compiling():
        return True
    modes = torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack()
    return modes > 0 or peek_interpreter_stack() is not None


def plain(*tensors: Tensor) -> bool:
    """Whether these are numbers on a CPU that nobody differentiates, casts or watches."""
    if watched() or torch.is_autocast_enabled("cpu"):
        return False
    differentiates = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor.device.type != "cpu" or type(tensor) not in (Tensor, nn.Parameter):
            return False
        if differentiates and tensor.requires_grad:
            return False
    return True


def fits_one_kernel(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN may multiply these."""
    given = (tokens, weight) if bias is None else (tokens, weight, bias)
    return plain(*given) and tokens.dtype == weight.dtype and tokens.dtype in _dtypes()


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None, act: Act = unchanged) -> Tensor:
    """act(tokens @ weight.T + bias): tokens (..., C), weight (D, C), bias (D) -> (..., D)."""
    if act in _FUSED and fits_one_kernel(tokens, weight, bias):
        return torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, *_FUSED[act])
    return act(F.linear(tokens, weight, bias))


class Keeping(nn.Module):
    """A module that keeps what it makes of its weights, in a model whose weights stay: see `keep`."""

    keeps = False
    _kept: tuple[Hashable, Tensor, list[Tensor]] | None = None

    def kept(self, key: Hashable, make: Callable[[], Tensor], *weights: Tensor) -> Tensor:
        """`make()`, or what it gave last time if neither key nor weights have changed."""
        # Of a tensor made in inference mode nobody counts the changes.
        counted = plain(*weights) and not any(weight.is_inference() for weight in weights)
        if not self.keeps or torch.is_grad_enabled() or not counted:
            return make()
        stamp = key, *((weight.data_ptr(), weight._version) for weight in weights)
        kept = self._kept
        if kept is None or kept[0] != stamp:
            # With the weights, or their memory could be given to others. Only then for other threads to see.
            self._kept = kept = stamp, make(), [weight.detach() for weight in weights]
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_kept"}


def keep(model: nn.Module) -> None:
    """From now on layers keep their weights in the order that oneDNN multiplies in, and biases those of the last grid.

    Weights that change in place or are loaded anew are noticed, unless it happens behind torch's back, by `.data`.
    """
    for module in model.modules():
        if isinstance(module, Keeping):
            module.keeps = True


class Linear(Keeping, nn.Linear):
    """A linear layer."""

    def fused(self, input: Tensor, act: Act) -> Tensor | None:
        """act(self(input)) in one kernel; None where there is none."""
        if act not in _FUSED or not fits_one_kernel(input, self.weight, self.bias):
            return None
        return torch.ops.mkldnn._linear_pointwise(input, self._ordered(input), self.bias, *_FUSED[act])

    def _ordered(self, input: Tensor) -> Tensor:
        weight = self.weight
        if not self.keeps:
            return weight
        rows = input.numel() // max(weight.shape[1], 1)
        return self.kept(0, lambda: torch.ops.mkldnn._reorder_linear_weight(weight, rows), weight)

    def forward(self, input: Tensor) -> Tensor:
        result = self.fused(input, unchanged)
        return super().forward(input) if result is None else result


class Conv2d(Keeping, nn.Conv2d):
    """A convolution on maps (B, C, H, W) that are views of tokens. Of 1 x 1 at stride 1 it is a linear layer."""

    def fused(self, input: Tensor, act: Act) -> Tensor | None:
        """act(self(input)) in one kernel; None where there is none."""
        if act not in _FUSED or self.padding_mode != "zeros" or not fits_one_kernel(input, self.weight, self.bias):
            return None
        if self.pointwise:
            weight, tokens = self._ordered(input), input.permute(0, 2, 3, 1)
            return torch.ops.mkldnn._linear_pointwise(tokens, weight, self.bias, *_FUSED[act]).permute(0, 3, 1, 2)
        where = self.padding, self.stride, self.dilation, self.groups
        return torch.ops.mkldnn._convolution_pointwise(input, self._ordered(input), self.bias, *where, *_FUSED[act])

    @property
    def pointwise(self) -> bool:
        """Whether it is a linear layer."""
        return self.kernel_size == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0) and self.groups == 1

    def _ordered(self, input: Tensor) -> Tensor:
        weight, ops = self.weight, torch.ops.mkldnn
        if self.pointwise:
            rows, weight = input.numel() // max(weight.shape[1], 1), weight.flatten(1)
            return self.kept(0, lambda: ops._reorder_linear_weight(weight, rows), weight) if self.keeps else weight
        where, shape = (self.padding, self.stride, self.dilation, self.groups), input.shape
        return (
            self.kept(0, lambda: ops._reorder_convolution_weight(weight, *where, shape), weight)
            if self.keeps
            else weight
        )

    def forward(self, input: Tensor) -> Tensor:
        result = self.fused(input, unchanged)
        return super().forward(input) if result is None else result


def activated(layer: nn.Module, act: Act, input: Tensor) -> Tensor:
    """act(layer(input)), in one kernel or at least in the memory of one, unless somebody listens to the layer."""
    if act is unchanged or layer._forward_hooks or layer._forward_pre_hooks:
        return act(layer(input))
    if isinstance(layer, Linear | Conv2d) and type(layer) in (Linear, Conv2d):
        result = layer.fused(input, act)
        if result is not None:
            return result
    output = layer(input)
    free = act in _IN_PLACE and not torch.is_grad_enabled() and not watched()
    in_place = free and output.data_ptr() != input.data_ptr()
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


MOST_SCORES = 2**22  # at once, where they are written down: 16 MiB in single precision


def by_queries(
    attend: Callable[[Tensor, Tensor | None], Tensor], query: Tensor, key: Tensor, bias: Tensor | None
) -> Tensor:
    """attend(query, bias), on a CPU by as many queries at a time as have at most `MOST_SCORES` scores with the keys.

    For attention whose scores no kernel keeps to itself: queries (B, heads, N, d), keys (B, heads, M, d), bias
    (1 or B, 1 or heads, N, M).
    """
    count = max(1, MOST_SCORES // (query.shape[0] * query.shape[1] * key.shape[2]))
    if count >= query.shape[2] or not plain(query, key):
        return attend(query, bias)
    queries = query.split(count, dim=2)
    biases = [None] * len(queries) if bias is None else bias.split(count, dim=2)
    return torch.cat([attend(*part) for part in zip(queries, biases, strict=True)], dim=2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale * q k^T + bias) v: queries (B, heads, N, d), keys (B, heads, M, d), values (B, heads, M, e).

    torch's fused kernel; on a CPU it takes no values wider than keys, and torch's way round it is slower than two plain
    products. In bfloat16 these would be faster too, but scores would be rounded before their softmax.
    """
    if query.shape[3] == value.shape[3] or not plain(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)

    def products(query: Tensor, bias: Tensor | None) -> Tensor:
        scores = (query * scale) @ key.transpose(2, 3)
        return (scores if bias is None else scores.add_(bias)).softmax(dim=-1) @ value

    return by_queries(products, query, key, bias)
