"""Weights in half precision: rounded so that filters keep their sums, with biases that are not rounded at all."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hybridvit import kernels
from hybridvit.kernels import Conv2d, Linear
from hybridvit.optimization import folded, optimize
from hybridvit.optimization.precision import with_same_sums
from tests.parity import error, images
from tests.representatives import perturbed_model, small_model
from tests.weights.examples import logits

adds_single = pytest.mark.skipif(not kernels.adds_single(torch.bfloat16), reason="oneDNN has no such kernels here")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (8, 4, 5, 3), (2, 3, 16, 16)])
def test_filters_keep_their_sums(shape: tuple[int, ...], dtype: torch.dtype):
    filters = torch.randn(shape)
    rounded = with_same_sums(filters, dtype)
    assert torch.equal(rounded, rounded.to(dtype).float())
    assert torch.equal(with_same_sums(rounded, dtype), rounded)

    def lost(by: torch.Tensor) -> torch.Tensor:
        return (by.double() - filters.double()).sum(dim=(2, 3)).abs()

    unit = torch.finfo(dtype).eps
    # What is lost at the end is rounding of the smallest tap with what came before it.
    assert (lost(rounded) <= unit * filters.abs().amax(dim=(2, 3))).all()
    assert lost(rounded).mean() < lost(filters.to(dtype)).mean() / 4
    assert ((rounded - filters).abs() <= 2 * unit * filters.abs().amax(dim=(2, 3), keepdim=True)).all()


@adds_single
def test_biases_of_layers_stay_in_single_precision():
    model = perturbed_model("levit_128s")
    fast, plain = optimize(model, dtype=torch.bfloat16), folded(model)
    layers = [(a, b) for a, b in zip(fast.modules(), plain.modules(), strict=True) if type(a) in (Linear, Conv2d)]
    assert layers
    for layer, as_it_was in layers:
        assert layer.weight.dtype == torch.bfloat16
        assert layer.bias is None or torch.equal(layer.bias, as_it_was.bias)  # pyright: ignore
    others = {parameter.dtype for name, parameter in fast.named_parameters() if not name.endswith("bias")}
    assert others == {torch.bfloat16}


@pytest.mark.parametrize("layer", [Linear(8, 8), Conv2d(8, 8, 1)])
def test_torchs_kernels_take_such_biases_too(layer: Linear | Conv2d):
    tokens = torch.randn(2, 8, *(3, 3) if isinstance(layer, Conv2d) else (), dtype=torch.bfloat16)
    assert layer.bias is not None
    bias = nn.Parameter(layer.bias.detach().clone())
    layer.to(torch.bfloat16)
    expected = layer(tokens)
    layer.bias = bias
    given = layer(tokens)  # differentiated, so that it is not oneDNN's kernel
    given.float().sum().backward()
    assert given.dtype == torch.bfloat16
    assert torch.allclose(given, expected, atol=1e-2)
    assert bias.grad is not None


def test_filters_of_maps_whose_neighbours_are_alike_lose_little():
    filters = torch.randn(64, 1, 3, 3)
    map_ = F.interpolate(torch.rand(1, 64, 5, 5), size=(64, 64), mode="bicubic")

    def lost(rounded: torch.Tensor) -> float:
        return (F.conv2d(map_, rounded.float(), groups=64) - F.conv2d(map_, filters, groups=64)).square().mean().item()

    assert lost(with_same_sums(filters, torch.bfloat16)) < lost(filters.to(torch.bfloat16)) / 10


def test_it_is_exported_and_predicts_alike():
    model, batch = optimize(small_model("levit_128s"), dtype=torch.bfloat16), images(64, 64).to(torch.bfloat16)
    program = torch.export.export(model, (batch,))
    assert error(logits(program.module(), batch).float(), logits(model, batch).float()) < 0.05
