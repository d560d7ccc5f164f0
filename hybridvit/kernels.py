"""Linear layers and activations on a CPU, in one kernel where nobody needs what lies between.

torch's own linear layer adds the bias and applies the activation in passes of their own, and multiplies by another
library than its convolutions do. oneDNN, which comes with torch, does all of it in one kernel that `torch.compile` uses
too. It knows no gradients, so training has the operations of `training_kernels`; whatever traces a model takes torch's
functions instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack  # pyright: ignore[reportMissingImports]
from torch.autograd import forward_ad
from torch.nn import functional as F

from .spec import Grid
from .training_kernels import Activation, Product, StarRelu

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


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2 (arXiv 2109.08668)."""
    return x.relu().square()


ACTIVATIONS: dict[str, Act] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu6": F.relu6,
    "squared_relu": squared_relu,
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

_aten = torch.ops.aten

# Those of which training need not keep both input and output.
RECOMPUTED: dict[Act, Activation] = {
    act: Activation(act, _IN_PLACE[act], slope)
    for act, slope in {
        ACTIVATIONS["gelu"]: _aten.gelu_backward,
        ACTIVATIONS["gelu_tanh"]: functools.partial(_aten.gelu_backward, approximate="tanh"),
        ACTIVATIONS["relu6"]: lambda grad, input: _aten.hardtanh_backward(grad, input, 0.0, 6.0),
        ACTIVATIONS["silu"]: _aten.silu_backward,
        ACTIVATIONS["hard_swish"]: _aten.hardswish_backward,
    }.items()
}


@functools.cache
def _dtypes() -> tuple[torch.dtype, ...]:
    """Of which oneDNN has kernels on this machine that torch can call."""
    available = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if not (available and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return ()
    fast = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)()
    return (torch.float32, torch.bfloat16) if fast else (torch.float32,)


@functools.cache
def adds_single(dtype: torch.dtype) -> bool:
    """Whether its kernels of a half precision add biases that are in single precision."""
    if dtype not in _dtypes() or dtype == torch.float32:
        return False
    tokens, weight, bias = torch.ones(1, 8, dtype=dtype), torch.ones(8, 8, dtype=dtype), torch.ones(8)
    try:
        torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, *_FUSED[unchanged])
    except RuntimeError:
        return False
    return True


# Asked a few hundred times in a forward pass, so what follows counts microseconds.
_TENSORS = (Tensor, nn.Parameter)
_is_traced, _dispatch_modes, _function_modes = (
    torch._C._is_tracing,
    torch._C._len_torch_dispatch_stack,
    torch._C._len_torch_function_stack,
)


def watched() -> bool:
    """Whether somebody traces, maps or counts what is computed."""
    if torch.compiler.is_compiling() or _is_traced():
        return True
    return _dispatch_modes() > 0 or _function_modes() > 0 or peek_interpreter_stack() is not None


def unwatched(tensor: Tensor) -> bool:
    """Whether these are numbers on a CPU that nobody watches: somebody may differentiate or cast them."""
    return tensor.is_cpu and type(tensor.detach()) is Tensor and not watched()


def plain(*tensors: Tensor) -> bool:
    """Whether these are numbers on a CPU that nobody differentiates, casts or watches.

    To be asked before their sizes are: an exported program would be bound to what these are at first.
    """
    if watched() or torch.is_autocast_enabled("cpu"):
        return False
    differentiates = torch.is_grad_enabled()
    for tensor in tensors:
        if not tensor.is_cpu or type(tensor) not in _TENSORS or (differentiates and tensor.requires_grad):
            return False
    return True


def fits_one_kernel(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN may multiply these."""
    if not (plain(tokens, weight) if bias is None else plain(tokens, weight, bias)):  # first: a compiler stops here
        return False
    dtype = tokens.dtype
    return dtype == weight.dtype and dtype in _dtypes()


def trains(*tensors: Tensor) -> bool:
    """Whether these are numbers on a CPU that somebody differentiates backwards, and nobody casts or watches."""
    return differentiated(*tensors) and not torch.is_autocast_enabled("cpu")


def differentiated(*tensors: Tensor) -> bool:
    """Whether these are numbers on a CPU that somebody differentiates backwards, and nobody watches."""
    if not torch.is_grad_enabled() or forward_ad._current_level >= 0 or watched():
        return False
    ours = all(tensor.device.type == "cpu" and type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
    return ours and any(tensor.requires_grad for tensor in tensors)


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None, act: Act = unchanged) -> Tensor:
    """act(tokens @ weight.T + bias): tokens (..., C), weight (D, C), bias (D) -> (..., D)."""
    if act in _FUSED and fits_one_kernel(tokens, weight, bias):
        return torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, *_FUSED[act])
    return act(_trained(tokens, weight, bias))


def _trained(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The linear layer for whoever trains it. In half precision torch's products are oneDNN's already."""
    if tokens.dtype == torch.float32 and _trains_layer(tokens, weight, bias):
        return Product.apply(tokens, weight, bias, None)  # pyright: ignore[reportReturnType]
    return F.linear(tokens, weight, bias)


def _trains_layer(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    given = (tokens, weight) if bias is None else (tokens, weight, bias)
    return trains(*given) and tokens.dtype == weight.dtype and tokens.dtype in _dtypes()


MOST_KEPT = 1024  # tokens: places of all pairs of them are 4 MiB
MOST_KEPT_UNASKED = 256  # and of these a quarter of 1 MiB


class Keeping(nn.Module):
    """A module that keeps what it makes of its weights, in a model whose weights stay: see `keep`."""

    keeps = False
    _kept: tuple[Hashable, Tensor, list[Tensor]] | None = None

    def kept(self, key: Hashable, make: Callable[[], Tensor], *weights: Tensor) -> Tensor:
        """`make()`, or what it gave last time if neither key nor weights have changed."""
        return self.kept_of(key, make, *weights) if self.keeps and plain(*weights) else make()

    def kept_of(self, key: Hashable, make: Callable[[], Tensor], *weights: Tensor) -> Tensor:
        """The same where somebody has asked whether weights are plain, and whether to keep anything."""
        if torch.is_grad_enabled():
            return make()
        for weight in weights:
            if weight.is_inference():  # nobody counts the changes of a tensor made in inference mode
                return make()
        stamp = key, *((weight.data_ptr(), weight._version) for weight in weights)
        kept = self._kept
        if kept is None or kept[0] != stamp:
            # With the weights, or their memory could be given to others. Only then for other threads to see.
            self._kept = kept = stamp, make(), [weight.detach() for weight in weights]
        return kept[1]

    def kept_for(
        self, grid: Grid, make: Callable[[], Tensor], *key: Hashable, of: Iterable[Tensor] | None = None
    ) -> Tensor:
        """What is made for the pairs of positions of a grid, of these weights or of all, kept if positions are few.

        Of many, every block would keep gigabytes. It is kept of fewer in models that do not keep, and there weights are
        known by their values, so that a change by `.data` is noticed too.
        """
        weights, wanted = tuple(self.parameters() if of is None else of), (grid, *key)
        if not isinstance(grid.height, int) or grid.tokens > (MOST_KEPT if self.keeps else MOST_KEPT_UNASKED):
            return make()
        if self.keeps:
            return self.kept(wanted, make, *weights)
        if torch.is_grad_enabled() or not plain(*weights):
            return make()
        wanted, kept = (*wanted, weights[0].dtype), self._kept
        if kept is None or kept[0] != wanted or not all(map(torch.equal, kept[2], weights)):
            self._kept = kept = wanted, make(), [weight.detach().clone() for weight in weights]
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


def own_weights(layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, past the search for the attribute of a module if they are its parameters."""
    own = layer._parameters
    if "weight" in own and "bias" in own:
        return cast("Tensor", own["weight"]), own["bias"]
    return layer.weight, layer.bias


def rows_of(input: Tensor, weight: Tensor) -> int:
    """How many vectors a weight (D, C, ...) multiplies."""
    return input.numel() // max(weight.shape[1], 1)


class Linear(Keeping, nn.Linear):
    """A linear layer."""

    def fused(self, input: Tensor, act: Act) -> Tensor | None:
        """act(self(input)) in one kernel; None where there is none."""
        weight, bias = own_weights(self)
        if not self.has_kernel(input, weight, bias, act):
            return None
        return self.multiply(input, self._ordered(input, weight) if self.keeps else weight, bias, act)

    def has_kernel(self, input: Tensor, weight: Tensor, bias: Tensor | None, act: Act) -> bool:
        """Whether `multiply` may have these."""
        return act in _FUSED and fits_one_kernel(input, weight, bias)

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, act: Act) -> Tensor:
        """What the layer would make of the input with other weights, in one kernel."""
        return torch.ops.mkldnn._linear_pointwise(input, weight, bias, *_FUSED[act])

    def uses(self, input: Tensor) -> int:
        """How often each weight is used for one image (B, N, C)."""
        return input.shape[1]

    def _ordered(self, input: Tensor, weight: Tensor) -> Tensor:
        return self.kept_of(0, lambda: torch.ops.mkldnn._reorder_linear_weight(weight, rows_of(input, weight)), weight)

    def forward(self, input: Tensor) -> Tensor:
        result = self.fused(input, unchanged)
        return _trained(input, self.weight, _alike(self.bias, self.weight)) if result is None else result


class Conv2d(Keeping, nn.Conv2d):
    """A convolution on maps (B, C, H, W) that are views of tokens. Of 1 x 1 at stride 1 it is a linear layer."""

    def fused(self, input: Tensor, act: Act) -> Tensor | None:
        """act(self(input)) in one kernel; None where there is none."""
        weight, bias = own_weights(self)
        if not self.has_kernel(input, weight, bias, act):
            return None
        return self.multiply(input, self._ordered(input, weight) if self.keeps else weight, bias, act)

    def has_kernel(self, input: Tensor, weight: Tensor, bias: Tensor | None, act: Act) -> bool:
        """Whether `multiply` may have these."""
        return act in _FUSED and self.padding_mode == "zeros" and fits_one_kernel(input, weight, bias)

    def multiply(self, input: Tensor, weight: Tensor, bias: Tensor | None, act: Act) -> Tensor:
        """What the layer would make of the input with other weights, in one kernel."""
        if self.pointwise:
            tokens, weight = input.permute(0, 2, 3, 1), weight if weight.ndim == 2 else weight.flatten(1)
            return torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, *_FUSED[act]).permute(0, 3, 1, 2)
        where = self.padding, self.stride, self.dilation, self.groups
        return torch.ops.mkldnn._convolution_pointwise(input, weight, bias, *where, *_FUSED[act])

    def uses(self, input: Tensor) -> int:
        """How often each weight is used for one image (B, C, H, W)."""
        return input.shape[2] // self.stride[0] * (input.shape[3] // self.stride[1])

    @property
    def pointwise(self) -> bool:
        """Whether it is a linear layer."""
        return self.kernel_size == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0) and self.groups == 1

    def _ordered(self, input: Tensor, weight: Tensor) -> Tensor:
        ops = torch.ops.mkldnn
        if self.pointwise:
            return self.kept_of(
                0, lambda: ops._reorder_linear_weight(weight.flatten(1), rows_of(input, weight)), weight
            )
        where = self.padding, self.stride, self.dilation, self.groups
        return self.kept_of(0, lambda: ops._reorder_convolution_weight(weight, *where, input.shape), weight)

    def convolve(self, input: Tensor, weight: Tensor) -> Tensor:
        """What the layer would make of the input with another weight."""
        if self.has_kernel(input, weight, self.bias, unchanged):
            return self.multiply(input, weight, self.bias, unchanged)
        return self._conv_forward(input, weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        result = self.fused(input, unchanged)
        return self._conv_forward(input, self.weight, _alike(self.bias, self.weight)) if result is None else result


def _alike(bias: Tensor | None, weight: Tensor) -> Tensor | None:
    """A bias as torch's own layers take it: optimized models keep some in single precision."""
    return bias if bias is None or bias.dtype == weight.dtype else bias.to(weight.dtype)


def heard(layer: nn.Module) -> bool:
    """Whether hooks wait for the layer to be called."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def activated(layer: nn.Module, act: Act, input: Tensor) -> Tensor:
    """act(layer(input)), in one kernel or at least in the memory of one, unless somebody listens to the layer.

    A class of layers has kernels if it has a `fused` of its own: that of a subclass would not be of its forward.
    """
    if act is unchanged or heard(layer):
        return act(layer(input))
    fused = vars(type(layer)).get("fused")
    if fused is not None and (result := fused(layer, input, act)) is not None:
        return result
    free = not torch.is_grad_enabled() and not watched()
    if act is squared_relu and free:
        return activated(layer, F.relu, input).square_()
    output = layer(input)
    in_place = free and act in _IN_PLACE and output.data_ptr() != input.data_ptr()
    return _IN_PLACE[act](output) if in_place else act(output)


def two_layers(first: nn.Module, act: Act, norm: nn.Module, second: nn.Module, tokens: Tensor) -> Tensor:
    """second(norm(act(first(tokens)))), in training without keeping what lies between if there is no norm."""
    if isinstance(second, Linear) and type(second) is Linear and type(norm) is nn.Identity and act in RECOMPUTED:
        weights = second.weight, second.bias
        if not (heard(norm) or heard(second)) and _trains_layer(tokens, *weights):
            return Product.apply(first(tokens), *weights, RECOMPUTED[act])  # pyright: ignore[reportReturnType]
    return second(norm(activated(first, act, tokens)))


def star_relu(tokens: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """scale * relu(tokens)^2 + bias for a scale and bias of one number each (arXiv 2210.13452)."""
    if trains(tokens, scale, bias):
        return StarRelu.apply(tokens, scale, bias)  # pyright: ignore[reportReturnType]
    positive = tokens.relu()
    if plain(positive, scale, bias):
        return torch.addcmul(bias, positive, positive, value=scale.item())
    return scale * positive.square() + bias


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Computes in the precision that tensors have."""
    # Autocast knows no meta device.
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)
