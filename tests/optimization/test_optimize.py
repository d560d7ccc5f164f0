"""The optimized copy of a model: the same outputs, and as good a model as any."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hybridvit as hv
from hybridvit.components.biases import DistanceTable, RelativePositionTable
from hybridvit.encoder import Encoder
from hybridvit.hub import LoopbackHub
from hybridvit.inspect.costs import cost
from hybridvit.kernels import Keeping
from hybridvit.optimization import optimize
from tests.exports import differences, exported
from tests.hub.conftest import api, loopback_hub
from tests.parity import error, images, perturb
from tests.representatives import small_model, small_spec
from tests.weights.examples import LABELS, client, described, facts, logits

__all__ = ["api", "loopback_hub"]

# With batch norms that fold, a bias by offset, one by distance, windows, and convolutions with groups.
HYBRIDS = ["test_coatnet", "levit_128s", "test_maxvit", "mobilevit_xxs"]
SIZE, OTHER = (64, 96), (80, 48)


def hybrid(name: str = "levit_128s") -> Encoder:
    model = small_model(name)
    perturb(model, batch_norm_gain=1.5 if name == "mobilevit_xxs" else 1.0)  # the deepest one in convolutions
    return model


def some_slow(fast: str) -> list[Any]:
    return [pytest.param(name, marks=() if name == fast else pytest.mark.slow) for name in HYBRIDS]


def kept(model: nn.Module) -> list[Keeping]:
    return [part for part in model.modules() if isinstance(part, Keeping) and part._kept is not None]


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("name", HYBRIDS)
def test_it_gives_the_same_at_every_size_in_turn(name: str, fold: bool):
    model = hybrid(name)
    fast = optimize(model.train(), fold=fold)
    assert model.training
    assert not fast.training
    model.eval()
    for size in (SIZE, OTHER, SIZE, SIZE):
        batch = images(*size)
        with torch.inference_mode():
            assert error(fast(batch), model(batch)) < 1e-4
            assert error(fast(batch[:1].expand(3, -1, -1, -1)), model(batch)) > 1e-2
            assert fast(batch[:0]).shape == (0, 7)
        for given, expected in zip(fast.features(batch), model.features(batch), strict=True):
            assert error(given, expected) < 1e-4
    assert any(isinstance(part, nn.Linear | nn.Conv2d) for part in kept(fast))
    assert {type(part) for part in kept(model)} <= {DistanceTable, RelativePositionTable}
    assert not any(part.keeps for part in model.modules() if isinstance(part, Keeping))
    assert (fast.spec == model.spec) != fold


def test_it_says_what_was_done():
    fast = optimize(hybrid(), dtype=torch.bfloat16)
    assert fast.optimizations == (
        "28 of 28 batch norms folded into other layers",
        "weights in bfloat16",
        "weights and position biases kept as the CPU takes them",
    )
    assert optimize(fast).optimizations == fast.optimizations


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["test_coatnet", "levit_128s"])
def test_in_another_precision(name: str, dtype: torch.dtype):
    """It is as near to the model as the model in that precision, or to rounding."""
    model, batch = hybrid(name), images(*SIZE)
    expected, fast = logits(model, batch), optimize(model, dtype=dtype)
    with torch.inference_mode():
        given, rounded = fast(batch.to(dtype)), model.to(dtype)(batch.to(dtype))
    assert given.dtype == dtype
    assert error(given.float(), expected) < max(2 * error(rounded.float(), expected), 1e-4)


def test_it_predicts_in_its_own_precision():
    model, batch = described("levit_128s", num_classes=5), images(224, 224)
    (one, *_), (other, *_) = (
        hv.predict(each, batch, topk=1)[0] for each in (optimize(model, dtype=torch.bfloat16), model)
    )
    assert one.label == other.label


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_saved_it_loads_as_it_was(tmp_path: Path, dtype: torch.dtype | None):
    model, batch = described("levit_128s", num_classes=5, img_size=SIZE), images(*SIZE)
    fast = optimize(model, dtype=dtype)
    assert facts(fast)[1:] == facts(model)[1:]
    assert fast.resolved is model.resolved
    loaded = hv.create_model(f"local-dir:{hv.save_pretrained(fast, tmp_path)}")
    assert facts(loaded) == facts(fast)
    assert loaded.optimizations == ()
    again, batch = optimize(loaded, dtype=dtype), batch.to(dtype)
    assert torch.equal(logits(again, batch), logits(fast, batch))
    assert error(logits(loaded, batch).float(), logits(fast, batch).float()) < (1e-4 if dtype is None else 0.1)


def test_its_weights_are_in_no_foreign_layout(tmp_path: Path):
    saved = hv.save_pretrained(optimize(described("levit_128s")), tmp_path / "saved")
    with pytest.raises(ValueError, match="has no layout 'timm'"):
        hv.convert(saved, tmp_path / "new.safetensors", to="timm")


def test_pushed_it_comes_back(loopback_hub: LoopbackHub, tmp_path: Path):
    fast, batch = optimize(described("levit_128s", num_classes=5, img_size=SIZE)), images(*SIZE)
    hv.push_to_hub(fast, "me/fast", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    again = hv.create_model("hf-hub:me/fast", **client(loopback_hub, tmp_path))
    assert error(logits(again, batch), logits(fast, batch)) < 1e-4
    assert facts(again) == facts(fast)


def test_its_card_tells_how_to_load_it(tmp_path: Path):
    fast = optimize(described("levit_128s", num_classes=5))
    card = (hv.save_pretrained(fast, tmp_path) / "README.md").read_text()
    assert f"{sum(parameter.numel() for parameter in fast.parameters()) / 1e6:.2f} million parameters" in card
    assert 'hv.create_model("local-dir:PATH")' in card
    assert "license: mit" in card
    assert ", ".join(LABELS) in card
    assert "timm" not in card


@pytest.mark.parametrize("name", some_slow("levit_128s"))
def test_exported_it_is_torchs_own_operations(name: str):
    fast, batch = optimize(hybrid(name)), images(*SIZE)
    expected = logits(fast, batch)
    program = torch.export.export(fast, (batch,))
    assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)
    assert error(logits(program.module(), batch), expected) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", HYBRIDS)
def test_exported_for_any_size(name: str):
    fast = optimize(hybrid(name))
    logits(fast, images(*OTHER))
    assert differences(fast, exported(fast), [(66, 193), (131, 75)]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_coatnet", "levit_128s"])
def test_onnx(name: str, tmp_path: Path):
    import onnxruntime

    fast, batch = optimize(hybrid(name)), images(*SIZE)
    with warnings.catch_warnings(action="ignore"):  # of the exporter itself
        program = torch.onnx.export(fast, (batch,), dynamo=True, verbose=False)
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    assert error(torch.from_numpy(given), logits(fast, batch)) < 1e-4


def compiled_by_hand(model: Encoder) -> Callable[[Tensor], Tensor]:
    return torch.compile(optimize(model), dynamic=False)


def compiled_by_option(model: Encoder) -> Callable[[Tensor], Tensor]:
    fast = optimize(model, compile=True)
    assert "torch.compile, one graph a size" in fast.optimizations
    return fast


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [compiled_by_hand, compiled_by_option])
def test_compiled(compiled: Callable[[Encoder], Callable[[Tensor], Tensor]]):
    model = hybrid("test_coatnet")
    run = compiled(model)
    for size in (SIZE, OTHER):
        assert error(logits(run, images(*size)), logits(model, images(*size))) < 1e-4  # pyright: ignore


@pytest.mark.parametrize("name", some_slow("test_coatnet"))
def test_dynamo_follows_it_whole(name: str):
    fast, batch = optimize(hybrid(name)), images(*SIZE)
    expected = logits(fast, batch)
    torch._dynamo.reset()
    assert error(logits(torch.compile(fast, backend="eager", fullgraph=True), batch), expected) < 1e-4  # pyright: ignore


def copied(model: Encoder) -> Encoder:
    return copy.deepcopy(model)


def pickled(model: Encoder) -> Encoder:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("again", [copied, pickled])
def test_what_is_kept_is_not_copied(again: Callable[[Encoder], Encoder]):
    fast, batch = optimize(hybrid()), images(*SIZE)
    expected = logits(fast, batch)
    other = again(fast)
    assert kept(fast)
    assert not kept(other)
    assert torch.equal(logits(other, batch), expected)
    assert kept(other)


@pytest.mark.parametrize("name", HYBRIDS)
def test_other_weights_are_noticed(name: str):
    fast, batch = optimize(hybrid(name)), images(*SIZE)
    before = logits(fast, batch)
    weights = {key: tensor + 0.05 * torch.randn(tensor.shape) for key, tensor in fast.state_dict().items()}
    plain = fast.spec.build().eval()
    plain.load_state_dict(weights)
    fast.load_state_dict(weights)
    assert error(logits(fast, batch), logits(plain, batch)) < 1e-4
    assert error(logits(fast, batch), before) > 1e-2
    with torch.inference_mode():
        for model in (fast, plain):
            for parameter in model.parameters():
                parameter.mul_(1.02)
    assert error(logits(fast, batch), logits(plain, batch)) < 1e-4


@pytest.mark.parametrize("name", HYBRIDS)
def test_it_can_be_trained_on(name: str):
    """What is kept has no part in gradients, and does not outlive a step."""
    fast, batch = optimize(hybrid(name)), images(*SIZE)
    plain = fast.spec.build().eval()
    plain.load_state_dict(fast.state_dict())
    logits(fast, batch)
    for model in (fast, plain):
        model.requires_grad_(True)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        nn.functional.cross_entropy(model(batch), torch.arange(3)).backward()
        optimizer.step()
    for (name, parameter), other in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert parameter.grad is not None, name
        assert torch.allclose(parameter.grad, other.grad, rtol=1e-3, atol=1e-5), name  # pyright: ignore
    assert error(logits(fast, batch), logits(plain, batch)) < 1e-4


def test_it_takes_other_classes_channels_and_sizes(tmp_path: Path):
    fast = optimize(described("levit_128s", num_classes=5, img_size=SIZE))
    saved = hv.save_pretrained(fast, tmp_path)
    adapted = hv.create_model(f"local-dir:{saved}", num_classes=3, in_chans=1, img_size=OTHER)
    adapted.set_drop_path(0.1)
    adapted.train()(images(*OTHER, 1)).sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


@pytest.mark.parametrize("name", ["test_coatnet", "levit_128s"])
def test_threads_share_it(name: str):
    """At sizes of their own, for which position biases differ."""
    fast = optimize(hybrid(name))
    batches = [images(*size) for size in (SIZE, OTHER)]
    expected = [logits(fast, batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: logits(fast, batches[index % 2]), range(24)))
    assert all(error(result, expected[index % 2]) < 1e-4 for index, result in enumerate(results))


def test_it_is_looked_into_as_any_model():
    model = hybrid("test_coatnet")
    fast, batch = optimize(model), images(*SIZE)
    maps = model.attention_maps(batch)
    for name, given in fast.attention_maps(batch).items():
        assert torch.allclose(given, maps[name], atol=1e-4)
    assert cost(fast.spec).params == sum(parameter.numel() for parameter in fast.parameters())
    assert copy.deepcopy(fast).to("meta")(batch.to("meta")).shape == (3, 7)
    heard: list[Any] = []
    fast.stages[0].register_forward_hook(lambda *given: heard.append(given))
    logits(fast, batch)
    assert len(heard) == 1


def test_made_in_inference_mode_it_still_notices_changes():
    batch = images(*SIZE)
    with torch.inference_mode():
        model = hybrid()
        fast = optimize(model)
        assert kept(fast) == []
        before = fast(batch)
        assert kept(fast)
        for each in (fast, model):
            each.head.weight.mul_(2) if isinstance(each.head, nn.Linear) else None
        assert error(fast(batch), before) > 1e-2


@pytest.mark.parametrize("dtype", ["bfloat16", torch.int8, torch.float8_e4m3fn])
def test_a_dtype_that_is_none(dtype: Any):
    with pytest.raises(ValueError, match=r"dtype is one of torch\.float32, torch\.bfloat16, .* not "):
        optimize(hybrid(), dtype=dtype)


def test_what_cannot_be_optimized():
    with torch.device("meta"):
        model = small_spec("levit_128s").build()
    with pytest.raises(ValueError, match="on the meta device has no weights"):
        optimize(model)
    with pytest.raises(TypeError, match="expected a model of hybridvit, got OptimizedModule; optimize it before"):
        optimize(torch.compile(hybrid()))  # pyright: ignore
