"""Compilation for a CPU: weights are constants, and oneDNN computes linear layers with what is behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._inductor.utils import run_and_get_code
from torch.fx.experimental.proxy_tensor import make_fx

import hybridvit as hv
from hybridvit.optimization import compiled
from hybridvit.optimization.compiled import frozen, frozen_by_onednn
from hybridvit.tokens import Grid, map_to_tokens, tokens_to_map
from tests.optimization.test_optimize import OTHER, SIZE, hybrid, some_slow
from tests.parity import error, images
from tests.weights.examples import logits

has_both = pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()), reason="needs MKL and oneDNN"
)


class Layers(nn.Module):
    """A strided convolution, and three layers of single positions, two of which are convolutions, with a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.wide = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 32, 1)
        self.narrow, self.last = nn.Conv2d(32, 8, 1), nn.Linear(8, 8)

    def forward(self, images: Tensor) -> Tensor:
        tokens = map_to_tokens(self.patches(images))
        map_ = tokens_to_map(tokens, Grid(4, 4))
        return self.last(tokens + map_to_tokens(self.narrow(nn.functional.silu(self.wide(map_)))))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[fx.GraphModule]:
    """What inductor is given, and runs as it is."""
    found: list[fx.GraphModule] = []

    def compile(module: fx.GraphModule, inputs: list[Any], options: dict[str, Any]) -> Callable[..., Any]:
        assert options["freezing"] is True
        assert len(inputs) == 1
        found.append(module)
        return module.forward

    monkeypatch.setattr("torch._inductor.compile", compile)
    torch._dynamo.reset()
    return found


@pytest.mark.parametrize("name", some_slow("levit_128s"))
def test_a_size_is_one_graph_whose_only_input_is_the_images(graphs: list[fx.GraphModule], name: str):
    model = hybrid(name)
    fast = hv.optimize(model, compile=True)
    for count, size in enumerate((SIZE, OTHER, SIZE)):
        assert error(logits(fast, images(*size)), logits(model, images(*size))) < 1e-4
        assert len(graphs) == min(count + 1, 2)
    for graph in graphs:
        assert len(graph.graph.find_nodes(op="placeholder")) == 1
        held = {tensor.data_ptr() for tensor in graph.buffers()}
        assert held <= {tensor.data_ptr() for tensor in (*fast.parameters(), *fast.buffers())}


@pytest.mark.skipif(not compiled.apart(), reason="torch counts the graphs of all models together")
def test_models_have_graphs_of_their_own(graphs: list[fx.GraphModule]):
    with torch._dynamo.config.patch(recompile_limit=1), torch.inference_mode():
        for count in range(2):
            hv.optimize(hybrid("vit_tiny_patch16_224"), compile=True)(images(*SIZE))
            assert len(graphs) == count + 1


def test_a_module_of_any_library_is_compiled(graphs: list[fx.GraphModule]):
    """Whatever stands first among the inputs of its graph."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval().requires_grad_(False)
    batch = torch.randn(3, 4)
    expected = model(batch)
    assert torch.allclose(torch.compile(model, dynamic=False, backend=frozen(model))(batch), expected)  # pyright: ignore
    assert len(graphs) == 1


@has_both
def test_layers_of_single_positions_and_what_is_behind_them_are_onednns():
    model, batch = Layers().eval().requires_grad_(False), torch.randn(2, 3, 16, 16)
    expected = model(batch)
    torch._dynamo.reset()
    with torch.inference_mode():
        result, (code,) = run_and_get_code(torch.compile(model, backend=frozen_by_onednn(model)), batch)
    assert torch.allclose(result, expected, atol=1e-5)
    assert [code.count(f"torch.ops.{name}(") for name in CALLS] == [1, 2, 1, 0]
    assert "'swish'" in code
    assert not re.search(r"reorder|assert_\w+\(buf", code)


def pairs(table: Tensor, scores: Tensor) -> Tensor:
    """Scores (3, 3) with weights by position: values of a table (5) by the distance of a pair, and their softmax."""
    places = torch.arange(3)
    return scores + table[places[:, None] - places + 2].softmax(dim=1) + torch.ones(3)


def test_what_weights_and_the_size_determine_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    table, scores = torch.randn(5), torch.randn(3, 3)
    graph = make_fx(lambda scores: pairs(table, scores))(scores)
    targets = [str(node.target) for node in graph.graph.nodes]
    assert "aten.index.Tensor" in targets
    monkeypatch.setattr(compiled, "MOST_FOLDED", 8)
    compiled._fold(graph.graph)
    assert [str(node.target) for node in graph.graph.nodes] == targets  # as many numbers need not be kept
    monkeypatch.setattr(compiled, "MOST_FOLDED", 9)
    compiled._fold(graph.graph)
    graph.recompile()
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert called == ["aten.add.Tensor", "aten.ones.default", "aten.add.Tensor"]
    assert torch.equal(graph(scores), pairs(table, scores))


CALLS = (
    "mkldnn._convolution_pointwise.default",
    "mkldnn._linear_pointwise.default",
    "mkldnn._linear_pointwise.binary",
    "mkl._mkl_linear.default",
)
