from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune
from torch.utils.flop_counter import FlopCounterMode

from hybridvit import kernels
from hybridvit.kernels import ACTIVATIONS, Conv2d, Linear, activated, keep, quick_gelu, unchanged
from tests.cpu_kernels import close, has_kernels, torchs

ACTS = [unchanged, *ACTIVATIONS.values()]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


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


@pytest.mark.parametrize("use", [under_autocast, counted, mapped, exported])
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


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Linear(8, 6),
    "pointwise": lambda: Conv2d(8, 6, 1),
    "square": lambda: Conv2d(8, 6, 3, padding=1),
    "depthwise": lambda: Conv2d(8, 8, 3, padding=1, groups=8),
    "patches": lambda: Conv2d(8, 6, 4, 4, bias=False),
    "dilated": lambda: Conv2d(8, 6, 3, padding=2, dilation=2),
    "reflecting": lambda: Conv2d(8, 6, 3, padding=1, padding_mode="reflect"),
}
MAPS: list[Callable[[], Tensor]] = [
    lambda: torch.randn(1, 8, 8, 8),
    lambda: torch.randn(5, 8, 12, 16).contiguous(memory_format=torch.channels_last),
    lambda: torch.randn(0, 8, 8, 8),
    lambda: torch.randn(2, 8, 16, 24)[:, :, ::2, ::3],
    lambda: torch.randn(1, 8, 8, 8).expand(3, 8, 8, 8),
]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_that_keeps_takes_inputs_of_any_shape_and_strides(kind: str):
    layer = LAYERS[kind]()
    keep(layer)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        layer.to(memory_format=memory_format)  # of a linear layer's weight it changes nothing
        for made in (*MAPS, *reversed(MAPS)):
            input = made().movedim(1, 3) if kind == "linear" else made()
            with torch.no_grad():
                assert close(layer(input), torchs(layer, input), torch.float32)


@has_kernels
def test_a_layer_keeps_its_weight_in_another_order(monkeypatch: pytest.MonkeyPatch):
    orders: list[int] = []
    order = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda *a: orders.append(1) or order(*a))
    layer, tokens = Linear(8, 6), torch.randn(2, 8)
    layer(tokens)
    keep(layer)
    with torch.no_grad():
        for _ in range(3):
            layer(tokens)
    assert len(orders) == 1
    assert layer(tokens).requires_grad
    assert len(orders) == 1


def changed_in_place(layer: nn.Linear) -> None:
    with torch.inference_mode():
        layer.weight.mul_(3)


def loaded(layer: nn.Linear) -> None:
    layer.load_state_dict({name: 3 * tensor for name, tensor in layer.state_dict().items()})


def assigned(layer: nn.Linear) -> None:
    for factor in (2, 3):
        layer.load_state_dict({name: factor * tensor for name, tensor in layer.state_dict().items()}, assign=True)


def stepped(layer: nn.Linear) -> None:
    layer(torch.randn(2, 64)).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()


def rounded(layer: nn.Linear) -> None:
    layer.bfloat16().float()


def strewn(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(torch.randn(64, 128)[:, ::2])


def turned(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(torch.randn(64, 64).t())


def made_in_inference_mode(layer: nn.Linear) -> None:
    with torch.inference_mode():
        layer.weight = nn.Parameter(torch.randn(64, 64), False)
        layer(torch.randn(2, 64))
        layer.weight.mul_(3)


def parametrized(layer: nn.Linear) -> None:
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    with torch.no_grad():
        layer(torch.randn(2, 64))
        layer.parametrizations.weight.original.mul_(3)  # pyright: ignore


def pruned(layer: nn.Linear) -> None:
    prune.random_unstructured(layer, "weight", 0.5)
    with torch.no_grad():
        layer(torch.randn(2, 64))
        layer.weight_orig.mul_(3)  # pyright: ignore
        layer(torch.randn(2, 64))  # the first hook of which applies the mask


@pytest.mark.parametrize(
    "change",
    [
        changed_in_place,
        loaded,
        assigned,
        stepped,
        rounded,
        strewn,
        turned,
        made_in_inference_mode,
        parametrized,
        pruned,
    ],
)
def test_a_layer_that_keeps_notices_another_weight(change: Callable[[nn.Linear], None]):
    layer, tokens = Linear(64, 64), torch.randn(2, 64)
    keep(layer)
    with torch.no_grad():
        layer(tokens)
    change(layer)
    with torch.no_grad():
        assert torch.allclose(layer(tokens), torchs(layer, tokens), atol=1e-5)


@pytest.mark.parametrize("made", [lambda: Linear(8, 6), lambda: Conv2d(8, 6, 1)])
def test_a_bias_alone_is_trained(made: Callable[[], nn.Module]):
    layer = made()
    layer.weight.requires_grad_(False)  # pyright: ignore
    layer(torch.randn(2, 8, 8, 8)).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((6,), 2.0 * 8 * 8))  # pyright: ignore


@pytest.mark.parametrize("act", [F.relu, quick_gelu])
def test_whoever_watches_an_activated_layer_sees_torchs_operations(act: kernels.Act):
    layer, tokens = Linear(8, 6), torch.randn(3, 4, 8)
    keep(layer)
    expected = act(F.linear(tokens, layer.weight, layer.bias))
    with torch.no_grad():
        activated(layer, act, tokens)
        assert torch.allclose(torch.vmap(lambda x: activated(layer, act, x))(tokens), expected, atol=1e-6)
        compiled = torch.compile(lambda x: activated(layer, act, x), fullgraph=True, backend="eager")
        assert torch.allclose(compiled(tokens), expected, atol=1e-6)
        assert activated(copy.deepcopy(layer).to("meta"), act, tokens.to("meta")).shape == expected.shape
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of torch.jit itself
            traced = torch.jit.trace(layer, tokens)
        assert torch.allclose(act(traced(tokens)), expected, atol=1e-6)  # pyright: ignore


def test_what_is_kept_is_not_copied_and_not_written():
    layer, tokens = Linear(8, 6), torch.randn(2, 8)
    keep(layer)
    with torch.no_grad():
        expected = layer(tokens)
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        for other in (copy.deepcopy(layer), torch.load(buffer, weights_only=False)):
            assert other.keeps
            assert other._kept is None
            assert torch.equal(other(tokens), expected)
    layer.compile()
    assert "_compiled_call_impl" not in layer.__getstate__()


def test_a_thread_gets_what_it_asked_for():
    """Even if another one asks for something else in the moment when it has been made."""

    class Interrupted(kernels.Keeping):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "_kept" and first is not None and value[1] is first:
                self.kept("second", lambda: torch.zeros(2))

    first, keeping = None, Interrupted()
    keep(keeping)
    first = torch.ones(1)
    with torch.no_grad():
        assert keeping.kept("first", lambda: first) is first


@pytest.mark.parametrize("act", ACTS)
def test_an_activation_is_known_in_a_copy_too(act: kernels.Act):
    assert copy.deepcopy(act) is act


def test_the_square_of_what_is_positive():
    tokens, scale, bias = torch.randn(2, 5, 8), torch.tensor([0.7]), torch.tensor([-0.2])
    positive = tokens.clamp(min=0)
    assert torch.allclose(kernels.star_relu(tokens, scale, bias), 0.7 * positive**2 - 0.2, atol=1e-6)
    scale.requires_grad_()
    kernels.star_relu(tokens, scale, bias).sum().backward()
    assert torch.allclose(scale.grad, (positive**2).sum(), rtol=1e-5)  # pyright: ignore
