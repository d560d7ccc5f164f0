from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridvit import kernels
from hybridvit.components.norms import BatchNormModule
from hybridvit.kernels import Conv2d, Linear, unchanged
from hybridvit.norm_kernels import normalized
from hybridvit.tokens import map_to_tokens
from tests.cpu_kernels import has_kernels, torchs

NORMED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: Linear(8, 6), (2, 30, 8)),
    "pointwise": (lambda: Conv2d(8, 6, 1, bias=False), (2, 8, 5, 6)),
    "square": (lambda: Conv2d(8, 6, 3, padding=1), (2, 8, 12, 12)),
    "strided": (lambda: Conv2d(8, 6, 3, stride=2, padding=1, bias=False), (2, 8, 25, 25)),
    "depthwise": (lambda: Conv2d(6, 6, 3, padding=1, groups=6, bias=False), (2, 6, 5, 6)),
}


def batch_norm_of(width: int, kind: type[BatchNormModule] = BatchNormModule) -> BatchNormModule:
    norm = kind(width).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 2.0)
    return norm


def normed(layer: nn.Module, norm: nn.Module, act: kernels.Act, input: Tensor) -> Tensor:
    return normalized(layer, unchanged, norm, act, input, unchanged if input.ndim == 3 else map_to_tokens)


@pytest.mark.parametrize("kind", NORMED)
@pytest.mark.parametrize("act", [unchanged, F.gelu, kernels.quick_gelu, kernels.squared_relu])
def test_a_layer_with_its_batch_norm_gives_what_torchs_give(kind: str, act: kernels.Act):
    made, shape = NORMED[kind]
    layer, norm, input = made(), batch_norm_of(6), torch.randn(shape)
    plain = torchs(layer, input)
    expected = act(norm(plain if plain.ndim == 3 else map_to_tokens(plain))).detach()
    kept = input.clone()
    with torch.no_grad():
        assert torch.allclose(normed(layer, norm, act, input), expected, atol=1e-5)
    assert torch.equal(input, kept)
    assert torch.allclose(normed(layer, norm, act, input), expected, atol=1e-5)


class Doubled(BatchNormModule):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_the_subclass_of_a_norm_computes_by_itself():
    layer, norm, tokens = Linear(8, 6), batch_norm_of(6, Doubled), torch.randn(1, 30, 8)
    with torch.no_grad():
        expected = 2 * BatchNormModule.forward(norm, layer(tokens))
        assert torch.allclose(normed(layer, norm, unchanged, tokens), expected, atol=1e-5)


@has_kernels
def test_a_batch_norm_is_in_the_weights_where_these_are_the_fewer(calls: list[str]):
    layer, norm = Linear(8, 6), batch_norm_of(6)
    few, many = torch.randn(1, 7, 8), torch.randn(1, 8, 8)
    with torch.no_grad():
        normed(layer, norm, F.gelu, few)
        normed(layer, norm, F.gelu, many)
        assert calls == ["none", "gelu"]
        norm.register_forward_hook(lambda module, inputs, output: output.mul(2))
        assert torch.allclose(normed(layer, norm, unchanged, many), 2 * norm.forward(layer(many)), atol=1e-5)
        norm.train()
        normed(layer, norm, unchanged, many)
    assert norm.num_batches_tracked == 1
