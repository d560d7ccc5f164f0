"""How a side is run: precision, layout, compilation, graphs, and what a training step does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from hybridvit.benchmark import sides
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.peers import fresh
from hybridvit.benchmark.records import BenchmarkError, Precision, Settings
from hybridvit.benchmark.sides import OURS, WAYS, Prepared, Way, ways
from hybridvit.benchmark.work import classify, compiled, train_step
from hybridvit.kernels import adds_single
from hybridvit.optimization.compiled import frozen, frozen_by_onednn

ALONE, WITH_PEER = "cct_2_3x2_32", "tf_efficientnet_lite0"


def case(model: str = ALONE, **settings: Any) -> Case:
    return Case(model=model, batch=2, img_size=(32, 32), settings=Settings(**settings))


def way(name: str) -> Way:
    return next(way for way in WAYS if way.name == name)


@pytest.mark.parametrize(
    ("precision", "weights", "output"),
    [
        ("fp32", torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("amp-bf16", torch.float32, torch.bfloat16),
    ],
)
def test_precision_of_weights_and_outputs(precision: Precision, weights: torch.dtype, output: torch.dtype) -> None:
    at = case(precision=precision)
    model = Prepared({OURS: fresh(at, OURS)}, at.settings).model(way(OURS))
    run = classify(model, way(OURS), at)
    assert next(model.parameters()).dtype == weights
    assert run().dtype == output
    assert run().shape == (2, 10)


def test_a_side_may_have_a_precision_of_its_own() -> None:
    at = case(WITH_PEER, precision="bf16")
    prepared = Prepared({"timm": fresh(at, "timm")}, at.settings)
    types = {w.name: classify(prepared.model(w), w, at)().dtype for w in (way("timm"), way("timm fp32"))}
    assert types == {"timm": torch.bfloat16, "timm fp32": torch.float32}


def test_only_channels_last_is_moved_to_it_and_what_is_alike_is_shared() -> None:
    at = case(WITH_PEER)
    model = fresh(at, "timm")
    prepared = Prepared({"timm": model}, at.settings)
    plain, moved, compiled = (prepared.model(way(f"timm{of}")) for of in ("", " channels_last", " compiled"))
    assert plain.get_parameter("conv_stem.weight").is_contiguous()
    assert moved.get_parameter("conv_stem.weight").is_contiguous(memory_format=torch.channels_last)
    assert model.get_parameter("conv_stem.weight").is_contiguous(), "the original is not touched"
    assert plain is compiled
    apart = Prepared({"timm": model}, at.settings, shared=False)
    assert apart.model(way("timm")) is not apart.model(way("timm compiled")), "each trains its own"


def test_which_sides_a_case_has() -> None:
    plain = [w.name for w in ways(case(WITH_PEER))]
    assert plain == [OURS, "hybridvit optimized", "timm", "timm channels_last"]
    named = [w.name for w in ways(case(WITH_PEER, compile="default"), ["timm compiled"])]
    assert named == [OURS, "timm compiled"]
    assert "timm fp32" in [w.name for w in ways(case(WITH_PEER, precision="bf16"))]
    assert "timm fp32" not in [w.name for w in ways(case(WITH_PEER, precision="amp-bf16"), training=True)]


def test_settings_of_a_side_tell_what_is_its_own() -> None:
    assert way("timm").settings() == {}
    assert way("timm channels_last compiled").settings() == {"layout": "channels_last", "compiled": "inference"}
    assert way("timm compiled").settings(training=True) == {"compiled": "training"}
    assert way("timm fp32").settings() == {"precision": "fp32"}


def test_an_optimised_side_is_folded_before_it_is_rounded() -> None:
    at = case(WITH_PEER, precision="bf16")
    model = fresh(at, OURS)
    fast = Prepared({OURS: model}, at.settings).model(way("hybridvit optimized"))
    assert not [part for part in fast.modules() if isinstance(part, nn.BatchNorm2d)]
    biases = {id(layer.bias) for layer in fast.modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    others = [weight for weight in fast.parameters() if id(weight) not in biases]
    assert {weight.dtype for weight in others} == {torch.bfloat16}
    kept = torch.float32 if adds_single(torch.bfloat16) else torch.bfloat16
    assert {weight.dtype for weight in fast.parameters() if id(weight) in biases} == {kept}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}, "the original is not touched"
    assert "hybridvit optimized" not in [w.name for w in ways(at, training=True)]


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda model, **given: found.append(given) or model)
    return found


def test_weights_are_constants_for_inference_alone(compilations: list[dict[str, Any]]) -> None:
    at = case(compile="reduce-overhead")
    model = fresh(at, OURS)
    classify(model, way(OURS), at)()
    assert not compilations
    graphs = {"triton.cudagraphs": True}
    for name, optimized in (("hybridvit compiled", False), ("hybridvit optimized compiled", True)):
        classify(model, way(name), at)()
        backend = compilations.pop()["backend"]
        expected: Any = (frozen_by_onednn if optimized else frozen)(model, graphs)
        assert (backend.func, backend.args) == (expected.func, expected.args)
    train_step(model, way("hybridvit compiled"), at)()
    compiled(model, way("hybridvit compiled"), Settings(compile="reduce-overhead", device="cuda"))
    assert compilations == 2 * [{"dynamic": False, "options": graphs}]


def test_a_graph_is_captured_once_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Stream:
        def wait_stream(self, other: object) -> None: ...

    class Graph:
        def replay(self) -> None:
            log.append("replay")

    @contextlib.contextmanager
    def into(name: str) -> Iterator[None]:
        log.append(name)
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: into("warm"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: into("capture"))
    at = case(cuda_graph=True)
    run = classify(fresh(at, OURS), way(OURS), at)
    assert log == ["warm", "capture"]
    assert run().shape == (2, 10)
    run()
    assert log == ["warm", "capture", "replay", "replay"]


@pytest.mark.parametrize("precision", ["fp32", "amp-bf16", "bf16"])
def test_a_step_trains(precision: Precision) -> None:
    at = case(precision=precision)
    model = fresh(at, OURS).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    step = train_step(model, way(OURS), at)
    assert model.training
    first = step().item()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]
    if precision != "bf16":  # whose steps may round away
        assert all(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    losses = [step().item() for _ in range(20)]
    assert losses[-1] < first


def test_a_step_uses_the_fused_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    make: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda weights, **options: given.append(options) or make(weights, **options)
    )
    train_step(fresh(case(), OURS), way(OURS), case())
    assert given[0]["fused"] is True


class Thin(nn.Module):
    """As in timm's FastViT: a strided 1 x 1 convolution of the image."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 10, 1, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images).mean((2, 3))


@pytest.mark.parametrize("name", ["timm channels_last", "timm compiled"])
def test_a_gradient_that_would_end_the_process_is_refused(name: str, compilations: list[dict[str, Any]]) -> None:
    at = case(compile="default")
    with pytest.raises(BenchmarkError, match=r"fewer than 16 channels \(conv\)"):
        train_step(Thin(), way(name), at)
    assert train_step(Thin(), way("timm"), at)().isfinite()
    assert classify(Thin(), way(name), at)().shape == (2, 10)
    train_step(Thin(16), way(name), at)
    train_step(Thin(), way(name), case(compile="default", device="meta"))


def test_the_names_of_sides_are_unique_and_ours_is_first() -> None:
    names = [w.name for w in sides.WAYS]
    assert len(set(names)) == len(names)
    assert names[0] == OURS
