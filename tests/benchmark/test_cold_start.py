"""Cold start: sides take turns in processes of their own, and only those with our outputs are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridvit.benchmark import cold_process, cold_start
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.cold_start import OURS_OWN_LAYOUT, Turns, compare, in_turns, saved_models
from hybridvit.benchmark.records import BenchmarkError, Settings
from hybridvit.registry import model_spec
from tests.weights.examples import TINY

VIT = "vit_tiny_patch16_224"


def case(name: str, rounds: int = 1) -> Case:
    settings = Settings(threads=1, rounds=rounds)
    return Case(model=name, batch=1, img_size=model_spec(name).img_size, settings=settings)


def test_sides_take_turns_and_one_that_fails_is_out() -> None:
    calls: list[str] = []

    def run(side: str) -> cold_start.Run:
        def told() -> dict[str, Any]:
            calls.append(side)
            if side == "c" and calls.count("c") == 2:
                raise BenchmarkError("broken")
            return {"create": calls.count(side)}

        return told

    turns = in_turns({side: run(side) for side in "abc"}, rounds=3)
    assert [sorted(calls[start : start + 3]) for start in (0, 3)] == [["a", "b", "c"]] * 2
    assert sorted(calls[6:]) == ["a", "a", "b", "b"]
    assert turns.told == {side: [{"create": 2}, {"create": 3}, {"create": 4}] for side in "ab"}, "the first is not kept"
    assert turns.failed == {"c": "refused: broken"}


def turns(**outputs: list[float]) -> Turns:
    return Turns({side: [{"outputs": values, "create": 1.0}] for side, values in outputs.items()})


def test_a_side_with_other_outputs_is_out() -> None:
    found = turns(hybridvit=[0.0, 4.0], timm=[0.0, 4.0001], transformers=[0.0, 5.0], torchvision=[0.0, 4.0, 1.0])
    assert compare(found) == pytest.approx(5e-5, rel=0.1)
    assert found.told.keys() == {"hybridvit", "timm"}
    assert found.failed["transformers"] == "refused: its outputs differ from ours by 5.0e-01 of their spread"
    assert "torchvision" in found.failed
    assert compare(turns(hybridvit=[0.0, 4.0])) is None


def test_without_ours_there_is_no_result() -> None:
    with pytest.raises(BenchmarkError, match="our own side failed: refused: broken"):
        compare(Turns({"timm": [{"outputs": [1.0]}]}, {"hybridvit": "refused: broken"}))


def test_what_is_not_a_cold_start() -> None:
    small = replace(case(TINY), img_size=(16, 16))
    with pytest.raises(BenchmarkError, match="at its own size; leave out --img-size"):
        cold_start.cold_start(small)
    with pytest.raises(BenchmarkError, match="leave out --precision and --compile"):
        cold_start.cold_start(replace(case(TINY), settings=Settings(precision="bf16")))


def test_all_processes_run_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    shown = "import json, os; print(json.dumps(dict(os.environ)))"
    variables = json.loads(cold_start._process(["-c", shown], Settings(threads=3)))
    assert (variables["OMP_NUM_THREADS"], variables["HF_HUB_OFFLINE"]) == ("3", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in variables
    with pytest.raises(BenchmarkError, match="its process ended with status 1 and said: no weights"):
        cold_start._process(["-c", "raise SystemExit('no weights')"], Settings())


def test_each_package_gets_the_same_weights_in_its_own_files(tmp_path: Path) -> None:
    saved, refused = saved_models(case(VIT), tmp_path, ["timm", "transformers"])
    assert not refused
    layouts = {side: each.layout for side, each in saved.items()}
    assert layouts == {"hybridvit": "timm", OURS_OWN_LAYOUT: "own", "timm": "timm", "transformers": "transformers"}
    assert saved["hybridvit"].directory == saved["timm"].directory
    answers = {
        side: torch.tensor(
            cold_process.measure(each.package, each.name, str(each.directory), [1, 3, 224, 224], "cpu")["outputs"]
        )
        for side, each in saved.items()
    }
    for side, answer in answers.items():
        torch.testing.assert_close(answer, answers["timm"], msg=side)
    assert answers["timm"].std() > 0.01


def test_a_model_that_no_other_package_has() -> None:
    result = cold_start.cold_start(case(TINY))
    (ours,) = result.sides
    assert (result.suite, result.model, result.difference) == ("cold_start", TINY, None)
    assert (ours.name, ours.settings, ours.failed) == ("hybridvit", {"layout": "own"}, None)
    times = {name: figure.values[0] for name, figure in ours.figures.items() if figure.unit == "s"}
    assert times.keys() == {
        "import beyond torch",
        "create",
        "first inference",
        "create to first answer",
        "processor time of create",
        "processor time to first answer",
        "list",
    }
    assert min(times.values()) > 0
    assert times["create"] + times["first inference"] == pytest.approx(times["create to first answer"], rel=1e-3)
    file, params = ours.figures["weights file"].values[0], result.params
    assert params is not None
    assert file == pytest.approx(4 * params / 2**20, rel=0.1)


@pytest.mark.slow
def test_peers_in_processes() -> None:
    result = cold_start.cold_start(case(VIT, rounds=2))
    assert [side.name for side in result.sides][:2] == ["hybridvit", OURS_OWN_LAYOUT]
    assert {side.name: side.failed for side in result.sides} == dict.fromkeys(
        ("hybridvit", OURS_OWN_LAYOUT, "timm", "transformers")
    )
    assert all(side.figures["create"].ratio for side in result.sides[1:])
    assert result.difference is not None
    assert result.difference < 1e-4
