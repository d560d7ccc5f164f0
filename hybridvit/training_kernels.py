"""What training on a CPU computes another way than torch: faster, or keeping less until the backward pass.

Each is an operation with a backward pass of its own. Where that is itself to be differentiated, it is computed anew
from torch's operations.
"""

# torch declares the argument of a backward pass as variadic.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Act = Callable[[Tensor], Tensor]
Gradients = tuple[Tensor | None, ...]


def by_torch(function: Callable[..., Tensor], inputs: tuple[Tensor | None, ...], grad: Tensor) -> Gradients:
    """The gradients of `inputs`, with a graph behind them."""
    wanted = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if tensor is not None and tensor.requires_grad else None for tensor in inputs)


class Activation(NamedTuple):
    """An activation whose input is what its gradient needs.

    `slope` makes the gradient of the input of that of the output and the input.
    """

    act: Act
    in_place: Act
    slope: Callable[[Tensor, Tensor], Tensor]


def rows(tokens: Tensor) -> Tensor:
    """Tokens (..., C) -> (N, C)."""
    return tokens.reshape(-1, tokens.shape[-1])


def product(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """tokens @ weight.T + bias: tokens (..., C), weight (D, C), bias (D) -> (..., D), by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "none", [], "")


class Product(torch.autograd.Function):
    """A linear layer whose products with its weight are oneDNN's; that of the weight's gradient is torch's.

    With an activation it is the layer of `act(tokens)`, which is computed anew in the backward pass, and not kept.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None, act: Activation | None) -> Tensor:
        ctx.save_for_backward(tokens, weight, bias)
        ctx.act = act
        return product(act.act(tokens) if act else tokens, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        (tokens, weight, bias), act = ctx.saved_tensors, ctx.act
        if torch.is_grad_enabled():
            layer = (lambda x, *layer: F.linear(act.act(x), *layer)) if act else F.linear
            return *by_torch(layer, (tokens, weight, bias), grad), None
        of_tokens, of_weight, of_bias, _ = ctx.needs_input_grad
        grad = rows(grad).contiguous()
        weight_grad = grad.t() @ rows(act.act(tokens) if act else tokens) if of_weight else None
        tokens_grad = product(grad, weight.t()).view(tokens.shape) if of_tokens else None
        if act and tokens_grad is not None:
            tokens_grad = act.slope(tokens_grad, tokens)
        return tokens_grad, weight_grad, grad.sum(dim=0) if of_bias else None, None


def as_map(tokens: Tensor) -> Tensor:
    """Tokens (B, N, C) -> a view (B, C, N, 1), in channels_last memory."""
    return tokens.unsqueeze(2).permute(0, 3, 1, 2)


def as_tokens(map_: Tensor) -> Tensor:
    """The inverse of `as_map`; contiguous."""
    return map_.permute(0, 2, 3, 1).squeeze(2).contiguous()


class ActedBatchNorm(torch.autograd.Function):
    """The activation of a batch norm of tokens (B, N, C) by their own statistics, which keeps nothing between the two.

    `running` are mean and variance to move towards those, or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor | None, Tensor | None],
        momentum: float,
        eps: float,
        act: Activation,
    ) -> Tensor:
        normalized, mean, inverse = torch.native_batch_norm(as_map(tokens), weight, bias, *running, True, momentum, eps)
        ctx.save_for_backward(tokens, weight, bias, mean, inverse)
        ctx.eps, ctx.act = eps, act
        return act.in_place(as_tokens(normalized))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        tokens, weight, bias, mean, inverse = ctx.saved_tensors
        act, nothing = ctx.act, (None,) * 4
        if torch.is_grad_enabled():

            def acted(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                normalized = F.batch_norm(as_map(tokens), None, None, weight, bias, True, 0.0, ctx.eps)
                return act.act(as_tokens(normalized))

            return *by_torch(acted, (tokens, weight, bias), grad), *nothing
        wide = torch.promote_types(tokens.dtype, torch.float32)
        scale = inverse.to(wide) * weight
        shift = torch.addcmul(bias.to(wide), mean.to(wide), scale, value=-1)
        normalized = torch.addcmul(shift.to(tokens.dtype), tokens, scale.to(tokens.dtype))
        grad = act.slope(grad.contiguous(), normalized)
        of_map, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            as_map(grad), as_map(tokens), weight, None, None, mean, inverse, True, ctx.eps, ctx.needs_input_grad[:3]
        )
        return None if of_map is None else as_tokens(of_map), of_weight, of_bias, *nothing


class StarRelu(torch.autograd.Function):
    """scale * relu(tokens)^2 + bias with one scale and one bias, which keeps the tokens alone."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, scale, bias)
        return tokens.relu().square_().mul_(scale).add_(bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        tokens, scale, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return by_torch(lambda x, scale, bias: scale * x.relu().square() + bias, (tokens, scale, bias), grad)
        positive = tokens.relu()
        product = grad * positive
        of_scale = (positive.mul_(product)).sum().view_as(scale)
        return product.mul_(2 * scale), of_scale, grad.sum().view_as(bias)


class GroupNorm(torch.autograd.Function):
    """Group norm of tokens (B, N, C), whose backward pass is torch's for maps in NCHW memory alone."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None, groups: int, eps: float) -> Tensor:
        batch, count, channels = tokens.shape
        normalized, mean, inverse = torch.native_group_norm(
            as_map(tokens), weight, bias, batch, channels, count, groups, eps
        )
        ctx.save_for_backward(tokens, weight, bias, mean, inverse)
        ctx.groups, ctx.eps = groups, eps
        return as_tokens(normalized)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        tokens, weight, bias, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():

            def normalized(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
                return F.group_norm(tokens.transpose(1, 2), ctx.groups, weight, bias, ctx.eps).transpose(1, 2)

            return *by_torch(normalized, (tokens, weight, bias), grad), None, None
        # Each group to mean 0 and deviation 1, then sums over positions by image and channel (B, groups, C / groups).
        groups, dtype = ctx.groups, torch.promote_types(tokens.dtype, torch.float32)
        inverse, factors = inverse.to(dtype)[..., None], weight.to(dtype).unflatten(0, (groups, -1))

        def each(values: Tensor) -> Tensor:
            return values.expand(-1, -1, factors.shape[1]).flatten(1).unsqueeze(1).to(tokens.dtype)

        unit = torch.addcmul(each(-mean.to(dtype)[..., None] * inverse), tokens, each(inverse))
        product = grad * unit
        products, grads = (x.sum(dim=1).to(dtype).unflatten(1, (groups, -1)) for x in (product, grad))
        # What the mean and the deviation of a group pass on to each of its members.
        share = inverse / (tokens.shape[1] * factors.shape[1])
        slope, shift = (-share * (sums * factors).sum(dim=-1, keepdim=True) for sums in (products, grads))
        of_tokens = torch.addcmul(each(shift), unit, each(slope), out=product).addcmul_(grad, each(inverse * factors))
        of_bias = None if bias is None else grads.sum(dim=0).flatten().to(bias.dtype)
        return of_tokens, products.sum(dim=0).flatten().to(weight.dtype), of_bias, None, None
