from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from hybridvit import kernels
from hybridvit.kernels import ACTIVATIONS, Conv2d, Linear, activated, attend, unchanged

ACTS = [unchanged, *ACTIVATIONS.values()]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]

has_kernels = pytest.mark.skipif(not kernels._dtypes(), reason="this torch has no oneDNN")


@pytest.fixture(name="calls")
def calls_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The activations that oneDNN was called with."""
    calls: list[str] = []
    kernel = torch.ops.mkldnn._linear_pointwise

    def counted(tokens: Tensor, weight: Tensor, bias: Tensor | None, act: str, *more: object) -> Tensor:
        calls.append(act)
        return kernel(tokens, weight, bias, act, *more)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return calls


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    return torch.allclose(actual, expected, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", ACTS)
def test_a_linear_layer_gives_what_torchs_gives(act: kernels.Act, bias: bool, dtype: torch.dtype):
    layer, tokens = Linear(12, 20, bias=bias).to(dtype), torch.randn(2, 5, 12, dtype=dtype)
    expected = act(F.linear(tokens, layer.weight, layer.bias))
    with torch.no_grad():
        assert close(activated(layer, act, tokens), expected, dtype)
        assert close(layer(tokens), F.linear(tokens, layer.weight, layer.bias), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTS)
def test_a_convolution_of_1_by_1_gives_what_torchs_gives(act: kernels.Act, dtype: torch.dtype):
    conv = Conv2d(12, 20, 1).to(dtype)
    map_ = torch.randn(2, 12, 3, 5, dtype=dtype).contiguous(memory_format=torch.channels_last)
    expected = act(F.conv2d(map_, conv.weight, conv.bias))
    with torch.no_grad():
        actual = activated(conv, act, map_)
    assert close(actual, expected, dtype)
    assert actual.permute(0, 2, 3, 1).is_contiguous()


@has_kernels
def test_one_kernel_does_it_where_nobody_needs_gradients(calls: list[str]):
    layer, conv, tokens = Linear(8, 8), Conv2d(8, 8, 1), torch.randn(1, 4, 8)
    with torch.no_grad():
        activated(layer, F.gelu, tokens)
        activated(conv, F.relu, torch.randn(1, 8, 2, 2))
    layer.requires_grad_(False)(tokens)
    assert calls == ["gelu", "relu", "none"]


def tracked(layer: Linear, tokens: Tensor) -> None:
    layer(tokens).sum().backward()
    assert layer.weight.grad is not None


def under_autocast(layer: Linear, tokens: Tensor) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(tokens).dtype == torch.bfloat16


def counted(layer: Linear, tokens: Tensor) -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(tokens)
    assert counter.get_total_flops() == 2 * tokens.numel() * layer.out_features


def mapped(layer: Linear, tokens: Tensor) -> None:
    with torch.no_grad():
        assert torch.vmap(layer)(tokens).shape == (*tokens.shape[:-1], layer.out_features)


def exported(layer: Linear, tokens: Tensor) -> None:
    layers = nn.Sequential(layer, nn.BatchNorm1d(4), Silu()).eval()
    with torch.no_grad():
        program = torch.export.export(layers, (tokens,))
    assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)


class Silu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, tokens: Tensor) -> Tensor:
        return activated(self.norm, F.silu, tokens)


def listened_to(layer: Linear, tokens: Tensor) -> None:
    heard: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: heard.append(output.clone()))
    with torch.no_grad():
        result = activated(layer, F.relu, tokens)
    handle.remove()
    assert heard[0].min() < 0
    assert torch.equal(result, heard[0].relu())


@pytest.mark.parametrize("use", [tracked, under_autocast, counted, mapped, exported])
def test_torchs_own_operations_where_somebody_follows_them(calls: list[str], use: object):
    assert callable(use)
    use(Linear(8, 6), torch.randn(2, 4, 8))
    assert not calls


def test_a_hook_sees_what_comes_before_the_activation():
    listened_to(Linear(8, 6), torch.randn(2, 4, 8))


def test_an_activation_spares_what_an_identity_passes_on():
    tokens = torch.randn(2, 4, 8)
    kept = tokens.clone()
    with torch.no_grad():
        activated(nn.Identity(), F.relu, tokens)
    assert torch.equal(tokens, kept)


def test_the_subclass_of_a_layer_computes_by_itself():
    class Doubled(Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    layer, tokens = Doubled(8, 6), torch.randn(2, 4, 8)
    with torch.no_grad():
        assert torch.allclose(activated(layer, F.relu, tokens), (2 * F.linear(tokens, layer.weight, layer.bias)).relu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("width", [8, 16])
def test_attention_gives_what_torchs_gives(width: int, biased: bool, dtype: torch.dtype):
    query, key = torch.randn(2, 3, 7, 8, dtype=dtype), torch.randn(2, 3, 5, 8, dtype=dtype)
    value = torch.randn(2, 3, 5, width, dtype=dtype)
    bias = torch.randn(1, 3, 7, 5, dtype=dtype) if biased else None
    kept = torch.empty(0) if bias is None else bias.clone()
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=0.3)
    with torch.no_grad():
        assert close(attend(query, key, value, bias, 0.3), expected, dtype)
    assert bias is None or torch.equal(bias, kept)


def test_attention_with_many_scores_keeps_none(monkeypatch: pytest.MonkeyPatch):
    fused: list[bool] = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: fused.append(True) or real(*a, **k))
    monkeypatch.setattr(kernels, "MOST_SCORES", 2 * 3 * 7 * 7 - 1)
    tokens = torch.randn(2, 3, 7, 8).bfloat16()
    with torch.no_grad():
        attend(tokens, tokens, tokens, None, 0.3)
    assert fused
