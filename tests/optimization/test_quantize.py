"""Linear layers in int8: near the model's answers, and honest about what cannot be done with them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import hybridvit as hv
from hybridvit.encoder import Encoder
from hybridvit.optimization import optimize
from tests.parity import error, images
from tests.representatives import small_model
from tests.weights.examples import logits

SIZE = (64, 96)


@pytest.fixture(name="model", params=["vit_tiny_patch16_224", "levit_128s"])
def model_of(request: pytest.FixtureRequest) -> Encoder:
    pytest.importorskip("torchao")
    return small_model(request.param)  # perturbed ones amplify every rounding


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_answers_move_a_little(model: Encoder, dtype: torch.dtype | None):
    batch = images(*SIZE)
    fast = optimize(model, quantize="int8", dtype=dtype)
    assert any(line.endswith("linear layers in int8, by torchao " + _version()) for line in fast.optimizations)
    moved = error(logits(fast, batch.to(dtype)).float(), logits(model, batch))
    assert 1e-4 < moved < 0.2
    assert not any("int8" in line for line in model.optimizations)
    assert torch.equal(logits(copy.deepcopy(fast), batch.to(dtype)), logits(fast, batch.to(dtype)))


def _version() -> str:
    import torchao

    return torchao.__version__


def test_its_linear_weights_take_a_quarter_of_the_memory(model: Encoder):
    fast = optimize(model, quantize="int8")
    layers = [layer.weight for layer in fast.modules() if isinstance(layer, torch.nn.Linear)]
    taken = sum(weight.qdata.nbytes for weight in layers)  # pyright: ignore
    assert taken * 4 == sum(weight.numel() * 4 for weight in layers)


def test_it_is_neither_saved_nor_optimized_again(model: Encoder, tmp_path: Path):
    fast = optimize(model, quantize="int8")
    with pytest.raises(ValueError, match=r"is quantized \(Int8Tensor\), which safetensors do not hold: save the model"):
        hv.save_pretrained(fast, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    with pytest.raises(ValueError, match="quantized already; optimize the one that it was made from"):
        optimize(fast)


@pytest.mark.slow
def test_compiled(model: Encoder):
    batch = images(*SIZE)
    fast = optimize(model, quantize="int8", compile=True)
    assert error(logits(fast, batch), logits(optimize(model, quantize="int8"), batch)) < 0.05


def test_without_torchao_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ImportError, match=r'quantize="int8" needs torchao: pip install "hybridvit\[quantize\]"'):
        optimize(small_model("vit_tiny_patch16_224"), quantize="int8")


@pytest.mark.parametrize("quantize", ["int4", torch.int8, True])
def test_what_there_is_not(quantize: Any):
    with pytest.raises(ValueError, match="quantize is None or 'int8', not"):
        optimize(small_model("vit_tiny_patch16_224"), quantize=quantize)
