"""Exported forms: that each is made, loaded and compared, and that one that fails leaves the others."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridvit.benchmark import BenchmarkError, Settings
from hybridvit.benchmark import export as package
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.export import FORMS, Form, export
from hybridvit.benchmark.records import Precision

PROGRAM, ONNX, AOT = "hybridvit exported", "hybridvit ONNX Runtime", "hybridvit AOTInductor"


def case(precision: Precision = "fp32") -> Case:
    settings = Settings(precision=precision, rounds=2, round_seconds=0.001, warmup=1)
    return Case(model="cct_2_3x2_32", batch=2, img_size=(32, 32), settings=settings)


@pytest.fixture
def first_results(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Processes that answer at once, and what they were asked."""
    asked: list[dict[str, Any]] = []

    def in_process(module: str, request: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
        assert Path(request["path"]).is_file()
        assert environment.keys() == {"TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_VEC_ISA_OK"}
        assert not list(Path(environment["TORCHINDUCTOR_CACHE_DIR"]).iterdir())
        asked.append(request)
        return {"seconds": float(len(asked))}

    monkeypatch.setattr(package, "in_process", in_process)
    return asked


def test_forms_have_the_same_weights_and_their_times(first_results: list[dict[str, Any]]) -> None:
    result = export(case(), [PROGRAM])
    ours, program = result.sides
    assert (ours.name, program.name) == ("hybridvit", PROGRAM)
    assert ours.failed is None
    assert program.failed is None
    assert result.difference is not None
    assert result.difference < 1e-4
    assert program.figures.keys() == {"latency", "export", "first result"}
    assert program.figures["first result"].values == (2.0,)
    assert program.figures["first result"].ratio is not None
    assert len(program.figures["latency"].values) == 2
    assert [request["name"] for request in first_results] == ["hybridvit", PROGRAM]


def test_every_form_starts_with_empty_caches(
    first_results: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    _, compiled = export(case(), ["hybridvit compiled"]).sides
    assert compiled.failed is None


def test_onnx_runtime_computes_the_same(first_results: list[dict[str, Any]]) -> None:
    for needed in FORMS[ONNX].needs:
        pytest.importorskip(needed)
    result = export(case(), [ONNX])
    assert [side.failed for side in result.sides] == [None, None]
    assert result.difference is not None
    assert 0 < result.difference < 1e-4


def test_a_package_that_is_missing_fails_its_side_alone(
    first_results: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    ours, onnx = export(case(), [ONNX]).sides
    assert onnx.failed == "onnxruntime is not installed"
    assert onnx.figures == {}
    assert ours.failed is None


def test_a_form_with_other_outputs_is_refused(
    first_results: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(case: Case, images: torch.Tensor, path: Path) -> Any:
        run = FORMS["hybridvit"].load(case, images, path)
        return lambda: 1.01 * run()

    ours = FORMS["hybridvit"]
    monkeypatch.setattr(package, "FORMS", {"hybridvit": ours, AOT: Form(ours.make, load)})
    _, wrong = export(case()).sides
    assert wrong.failed is not None
    assert wrong.failed.startswith("refused: its outputs differ from the model's by 1")


def test_a_first_result_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "in_process", lambda *args: {"failed": "out of memory"})
    (ours,) = export(case(), []).sides
    assert ours.failed == "refused: first result: out of memory"


def test_autocast_cannot_be_exported() -> None:
    with pytest.raises(BenchmarkError, match="amp-bf16 is: use fp32 or bf16"):
        export(case("amp-bf16"))


@pytest.mark.slow
def test_all_forms_in_processes_of_their_own() -> None:
    result = export(case())
    assert [side.name for side in result.sides] == list(FORMS)
    assert [side.failed for side in result.sides] == [None] * len(FORMS)
    first = {side.name: side.figures["first result"].values[0] for side in result.sides}
    assert first[AOT] < first["hybridvit compiled"]
