"""What training computes another way gives the same gradients, also of gradients, and keeps less."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn import functional as F

from hybridvit import kernels
from hybridvit.components.mixers import Mlp
from hybridvit.components.norms import BatchNorm, GroupNorm
from hybridvit.kernels import ACTIVATIONS, Linear, activated, star_relu
from hybridvit.spec import Grid
from hybridvit.training_kernels import ActedBatchNorm, StarRelu
from hybridvit.training_kernels import GroupNorm as GroupNormFunction

RECOMPUTED = pytest.mark.parametrize("act", kernels.RECOMPUTED, ids=lambda act: act.__name__)
Layer = Callable[[Tensor], Tensor]


def leaf(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype).requires_grad_()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@contextmanager
def torchs_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Layers train by torch's operations."""
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "trains", lambda *tensors: False)
        yield


def gradients(module: nn.Module, call: Layer, tokens: Tensor) -> list[Tensor]:
    """The output, and gradients of the input and of all parameters."""
    tokens = tokens.clone().requires_grad_()
    output = call(tokens)
    torch.manual_seed(1)
    grads = torch.autograd.grad(output, [tokens, *module.parameters()], torch.randn_like(output))
    return [output.detach(), *grads]


def assert_same_gradients(
    monkeypatch: pytest.MonkeyPatch, module: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], tokens: Tensor
) -> None:
    other = copy.deepcopy(module)
    ours = gradients(module, functools.partial(call, module), tokens)
    with torchs_own(monkeypatch):
        expected = gradients(other, functools.partial(call, other), tokens)
    loose = tokens.dtype == torch.bfloat16
    for one, two in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, two, atol=0.1 if loose else 1e-4, rtol=0.1 if loose else 1e-4)
    for one, two in zip(module.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two)


def saved_bytes(call: Callable[[], object]) -> int:
    """What autograd keeps, each memory counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    del result
    return sum(kept.values())


@RECOMPUTED
def test_gradients_of_a_batch_norm_and_its_activation(act: kernels.Act):
    def acted(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ActedBatchNorm.apply(tokens, weight, bias, (None, None), 0.1, 1e-5, kernels.RECOMPUTED[act])  # pyright: ignore

    inputs = leaf(2, 5, 4), leaf(4), leaf(4)
    assert gradcheck(acted, inputs)
    if act is not F.hardswish:  # torch differentiates that once
        assert gradgradcheck(acted, inputs)


def test_gradients_of_group_norm():
    def normed(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return GroupNormFunction.apply(tokens, weight, bias, 2, 1e-5)  # pyright: ignore[reportReturnType]

    inputs = leaf(2, 3, 4), leaf(4), leaf(4)
    assert gradcheck(normed, inputs)
    assert gradgradcheck(normed, inputs)


def test_gradients_of_a_star_relu():
    inputs = leaf(2, 5), leaf(1), leaf(1)
    assert gradcheck(StarRelu.apply, inputs)
    assert gradgradcheck(StarRelu.apply, inputs)


def test_gradients_of_gradients_of_a_linear_layer():
    layer, tokens = Linear(4, 3), leaf(2, 5, 4, dtype=torch.float32)

    def penalty(multiply: Layer) -> tuple[Tensor, ...]:
        (grad,) = torch.autograd.grad(multiply(tokens).square().sum(), tokens, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), (tokens, layer.weight, layer.bias))

    expected = penalty(lambda x: F.linear(x, layer.weight, layer.bias))
    for ours, theirs in zip(penalty(layer), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_an_mlp_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch, act: str, dtype: torch.dtype):
    grid = Grid(2, 3)
    mlp = Mlp(hidden=16, act=act).build(8, grid).to(dtype)
    assert_same_gradients(monkeypatch, mlp, lambda module, x: module(x, grid), torch.randn(4, 6, 8, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_a_batch_norm_gives_the_same_gradients_and_statistics(
    monkeypatch: pytest.MonkeyPatch, act: str, dtype: torch.dtype
):
    norm = BatchNorm().build(8).to(dtype)
    nn.init.constant_(norm.bias, 3)  # pyright: ignore  # beside where activations bend, for a rounded input bends anew
    tokens = torch.rand(4, 6, 8, dtype=dtype)
    assert_same_gradients(monkeypatch, norm, lambda module, x: activated(module, ACTIVATIONS[act], x), tokens)
    assert norm.num_batches_tracked.item() == 1  # pyright: ignore


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_group_norm_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, bias: bool):
    norm = GroupNorm(groups=2, bias=bias).build(8).to(dtype)
    assert_same_gradients(monkeypatch, norm, lambda module, x: module(x), 3 + torch.randn(4, 6, 8, dtype=dtype))


def test_an_mlp_keeps_its_hidden_layer_once():
    grid = Grid(8, 8)
    mlp, tokens = Mlp(hidden=64).build(8, grid), torch.randn(4, 64, 8)
    hidden = 4 * 64 * 64 * 4
    assert hidden <= saved_bytes(lambda: mlp(tokens, grid)) < 1.5 * hidden


def test_a_batch_norm_and_its_activation_keep_one_map():
    norm, tokens = BatchNorm().build(8), torch.randn(4, 64, 8)
    size = tokens.numel() * 4
    assert size <= saved_bytes(lambda: activated(norm, F.gelu, tokens)) < 1.5 * size


def test_a_star_relu_keeps_its_input():
    scale, bias, tokens = leaf(1, dtype=torch.float32), leaf(1, dtype=torch.float32), torch.randn(4, 64, 8)
    size = tokens.numel() * 4
    assert size <= saved_bytes(lambda: star_relu(tokens.requires_grad_(), scale, bias)) < 1.5 * size


def test_frozen_parameters_have_no_gradients():
    mlp, norm = Mlp(hidden=16).build(8, Grid(2, 3)), BatchNorm().build(8)
    mlp.fc2.requires_grad_(False)
    norm.requires_grad_(False)
    tokens = leaf(4, 6, 8, dtype=torch.float32)
    activated(norm, F.gelu, mlp(tokens, Grid(2, 3))).sum().backward()
    assert tokens.grad is not None
    assert mlp.fc1.weight.grad is not None
    assert mlp.fc2.weight.grad is None
    assert norm.weight.grad is None


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")  # torch itself scripts these
def test_forward_derivatives_are_torchs():
    layer = Linear(4, 3)
    with forward_ad.dual_level():
        tokens = forward_ad.make_dual(torch.randn(2, 4), torch.ones(2, 4))
        tangent = forward_ad.unpack_dual(layer(tokens)).tangent
    torch.testing.assert_close(tangent, F.linear(torch.ones(2, 4), layer.weight))


def test_hooks_of_both_layers_are_called():
    mlp, called = Mlp(hidden=16).build(8, Grid(2, 3)), []
    for layer in (mlp.fc1, mlp.fc2):
        layer.register_forward_hook(lambda module, args, output: called.append(module))
        layer.register_full_backward_hook(lambda module, *grads: called.append(module))
    mlp(leaf(4, 6, 8, dtype=torch.float32), Grid(2, 3)).sum().backward()
    assert called == [mlp.fc1, mlp.fc2, mlp.fc2, mlp.fc1]


def test_a_compiled_layer_trains_by_torchs_operations():
    mlp, tokens = Mlp(hidden=16).build(8, Grid(2, 3)), torch.randn(4, 6, 8)
    expected = gradients(mlp, lambda x: mlp(x, Grid(2, 3)), tokens)
    compiled = torch.compile(lambda x: mlp(x, Grid(2, 3)), fullgraph=True, backend="aot_eager")
    for one, two in zip(gradients(mlp, compiled, tokens), expected, strict=True):
        torch.testing.assert_close(one, two)


def test_functional_gradients_are_torchs():
    layer, tokens = Linear(4, 3), torch.randn(2, 4)
    weight = torch.func.grad(lambda w: F.linear(tokens, w, layer.bias).square().sum())(layer.weight)
    ours = torch.func.grad(lambda w: torch.func.functional_call(layer, {"weight": w}, tokens).square().sum())
    torch.testing.assert_close(ours(layer.weight), weight)


def test_a_product_takes_gradients_of_any_strides():
    layer, tokens = Linear(4, 3), leaf(2, 5, 4, dtype=torch.float32)
    layer(tokens).sum().backward()
    torch.testing.assert_close(tokens.grad, layer.weight.sum(0).expand(2, 5, 4))
