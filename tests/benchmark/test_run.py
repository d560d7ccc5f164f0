"""Suites over tiny models on the CPU, the command line, and everything that stops one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from hybridvit.benchmark import BenchmarkError, Settings, append_result, benchmark, read_results, speed
from hybridvit.benchmark import run as run_module
from hybridvit.benchmark.records import Figure, Suite
from hybridvit.benchmark.run import SETS, SIZES
from hybridvit.benchmark.sides import OURS
from hybridvit.cli import app
from hybridvit.registry import UnknownNameError, index
from tests.benchmark.examples import example

ALONE, WITH_PEER = "cct_2_3x2_32", "tf_efficientnet_lite0"
QUICK = Settings(threads=1, rounds=3, round_seconds=0.001, warmup=1)

pytestmark = pytest.mark.usefixtures("small_peaks")


@pytest.mark.parametrize(("suite", "time"), [("inference", "latency"), ("training", "step")])
def test_sides_are_measured_in_pairs_with_equal_weights(suite: Suite, time: str) -> None:
    names = ["timm", "timm channels_last"]
    (result,) = benchmark([WITH_PEER], [2], QUICK, suite=suite, img_sizes=[(32, 64)], sides=names, weigh=False)
    assert [side.name for side in result.sides] == [OURS, *names]
    assert not [side.failed for side in result.sides if side.failed]
    assert (result.suite, result.model, result.batch, result.img_size) == (suite, WITH_PEER, 2, (32, 64))
    assert result.params == 4_652_008
    assert result.difference is not None
    assert result.difference < 1e-3
    assert result.peaks is not None
    ours, *peers = (side.figures for side in result.sides)
    assert ours.keys() == {time, "of matrix peak", "of bandwidth", "first call"}
    passes, moves = (1, 1) if suite == "inference" else (3, 10)
    assert result.flops is not None
    for figures in (ours, *peers):
        assert len(figures[time].values) == 3
        expected = passes * 2 * result.flops / figures[time].values[0] / result.peaks.matrix_gflops / 1e9
        assert figures["of matrix peak"].values[0] == pytest.approx(expected, rel=1e-4)
        read = moves * 4 * result.params / figures[time].values[0] / result.peaks.copy_gbs / 1e9
        assert figures["of bandwidth"].values[0] == pytest.approx(read, rel=1e-4)
    for figures in peers:
        pairs = zip(figures[time].values, ours[time].values, strict=True)
        ratio = figures[time].ratio
        assert ratio is not None
        assert ratio.median == pytest.approx(sorted(theirs / mine for theirs, mine in pairs)[1], rel=1e-3)


def test_without_a_batch_each_side_has_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a compiled one takes that of the same model eager."""
    asked: list[str] = []

    def best(rate: Any, room: Any) -> int:
        way = rate.args[1]
        asked.append(f"{way.package} {'channels_last' if way.channels_last else ''}".strip())
        assert rate(1) > 0
        assert room()
        return 3 if way.package == OURS else 2

    monkeypatch.setattr(speed, "best_batch", best)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    settings = replace(QUICK, compile="default")
    names = ["hybridvit compiled", "timm compiled", "timm channels_last"]
    (result,) = benchmark([WITH_PEER], [None], settings, img_sizes=[(32, 32)], sides=names, weigh=False)
    batches = {side.name: side.figures["best batch"].values for side in result.sides}
    assert batches == {OURS: (3,), "hybridvit compiled": (3,), "timm channels_last": (2,), "timm compiled": (2,)}
    assert sorted(asked) == ["hybridvit", "timm", "timm channels_last"]
    assert all("latency" not in side.figures for side in result.sides), "times of other batches compare nothing"
    assert result.batch is None
    assert result.sides[1].figures["throughput"].ratio is not None


def test_every_model_of_a_set_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch gives up code that it has compiled for eight models."""
    compile_, graphs = torch.compile, list[Any]()

    def compiled(model: Any, **_: Any) -> Any:
        return compile_(model, dynamic=False, backend=lambda *of: graphs.append((model, *of)) or of[0].forward)

    monkeypatch.setattr(torch, "compile", compiled)
    settings, names = replace(QUICK, compile="default"), [OURS, "hybridvit compiled"]
    with torch._dynamo.config.patch(recompile_limit=1):
        models = [ALONE, "cct_7_3x1_32"]
        results = list(benchmark(models, [1], settings, img_sizes=[(32, 32)], sides=names, weigh=False))
    assert not [side.failed for result in results for side in result.sides if side.failed]
    assert len(graphs) == 2


def test_a_model_without_a_peer_runs_alone() -> None:
    (result,) = benchmark([ALONE], [1], QUICK, sides=[OURS], weigh=False)
    assert [side.name for side in result.sides] == [OURS]
    assert result.difference is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory"),
        (RuntimeError("a bug\nin two lines"), "refused: RuntimeError: a bug"),
    ],
)
def test_a_side_that_fails_does_not_lose_the_others(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    classify = speed.WORKS["inference"]

    def failing(model: Any, way: Any, case: Any) -> Any:
        if way.name == "timm channels_last":
            raise error
        return classify(model, way, case)

    monkeypatch.setattr(speed, "WORKS", {"inference": failing})
    monkeypatch.setattr(speed, "peak_memory", lambda case, way, work: {"peak": 8.0})
    names = ["timm", "timm channels_last"]
    (result,) = benchmark([WITH_PEER], [1], QUICK, img_sizes=[(32, 32)], sides=names)
    ours, timm, failed = result.sides
    assert (failed.failed, failed.figures) == (reason, {})
    assert ours.failed is None
    assert timm.failed is None
    assert timm.figures["peak memory"].values == (8.0,)


def test_memory_that_cannot_be_weighed_leaves_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "peak_memory", lambda case, way, work: {"failed": "out of memory"})
    (result,) = benchmark([ALONE], [1], QUICK, sides=[OURS])
    assert result.sides[0].failed == "memory: out of memory"
    assert "latency" in result.sides[0].figures


@pytest.mark.parametrize(
    ("settings", "batches", "message"),
    [
        (Settings(device="cuda"), [1], "finds no device 'cuda'"),
        (Settings(device="cuda:7"), [1], "finds no device 'cuda:7'"),
        (Settings(device="toaster"), [1], "no device 'toaster'"),
        (Settings(precision="tf32"), [1], "tf32"),
        (Settings(cuda_graph=True), [1], "CUDA graphs need a CUDA device, not 'cpu'"),
        (Settings(precision="fp8"), [1], "precision must be one of"),  # pyright: ignore[reportArgumentType]
        (Settings(compile="fast"), [1], "compile must be one of None, default"),  # pyright: ignore[reportArgumentType]
        (Settings(), [4, 0], "batch must be at least 1"),
        (Settings(rounds=0), [1], "rounds must be at least 1"),
        (Settings(warmup=0), [1], "warmup must be at least 1"),
        (Settings(round_seconds=float("nan")), [1], "round_seconds must be above 0"),
    ],
)
def test_settings_that_cannot_be_run(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, batches: list[int], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BenchmarkError, match=message):
        list(benchmark([ALONE], batches, settings))


@pytest.mark.parametrize(
    ("models", "named", "message"),
    [
        ([ALONE, "cct_2_3x2_23"], {}, "Did you mean"),
        ([ALONE], {"sides": ["timmm"]}, "no side 'timmm' in the inference suite; sides: hybridvit, "),
        ([ALONE], {"sides": ["timm"], "suite": "export"}, "no side 'timm' in the export suite; sides: hybridvit, "),
        ([ALONE], {"suite": "speed"}, "no suite 'speed'; suites: inference"),
    ],
)
def test_unknown_names_stop_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, models: Sequence[str], named: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(speed, "contest", lambda *args: pytest.fail("measured"))
    with pytest.raises((UnknownNameError, BenchmarkError), match=message):
        next(benchmark(models, [1], QUICK, **named))


def test_global_switches_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        assert torch.get_num_threads() == threads + 1
        raise RuntimeError("a bug")

    threads = torch.get_num_threads()
    monkeypatch.setattr(speed, "interleaved", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        list(benchmark([ALONE], [1], replace(QUICK, threads=threads + 1)))
    assert torch.get_num_threads() == threads


def test_suites_have_their_own_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int | None, tuple[int, int]]] = []
    for suite, plan in run_module.SUITES.items():
        note = replace(plan, measure=lambda case, sides, weigh: asked.append((case.batch, case.img_size)) or example())
        monkeypatch.setitem(run_module.SUITES, suite, note)  # pyright: ignore[reportArgumentType]
    list(benchmark([ALONE]))
    assert asked == [(1, (32, 32)), (None, (32, 32))]
    asked.clear()
    list(benchmark([ALONE], suite="memory"))
    assert asked == [(1, size) for size in SIZES]


def test_sets_name_models_of_the_zoo() -> None:
    assert not {name for names in SETS.values() for name in names} - index().keys()


def test_command_line_writes_and_renders(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    arguments = [ALONE, "--batch", "1", "--side", OURS, "--rounds", "2", "--round-seconds", "0.001", "--threads", "1"]
    ran = CliRunner().invoke(app, ["benchmark", *arguments, "--no-memory", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    (result,) = read_results(out)
    assert (result.model, result.settings.rounds) == (ALONE, 2)
    assert len(result.sides[0].figures["latency"].values) == 2
    assert json.loads(out.read_text())["versions"]["torch"] == torch.__version__
    rendered = CliRunner().invoke(app, ["benchmark", "--render", str(out)])
    assert rendered.exit_code == 0
    assert f"| {ALONE} | hybridvit | 0.28M |" in rendered.output
    paired = CliRunner().invoke(app, ["benchmark", "--render", str(out), "--pair", OURS, OURS])
    assert paired.exit_code == 0
    assert f"| {ALONE} | 32x32 | 1 | 1.00 (1.00-1.00) |" in paired.output


def test_command_line_compares_and_its_exit_code_tells(tmp_path: Path) -> None:
    before, after = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    ours = example().sides[0]
    for path, seconds in ((before, 0.002), (after, 0.01)):
        figures = {"latency": Figure.of("s", [seconds] * 9)}
        append_result(path, replace(example(), sides=(replace(ours, figures=figures),)))
    ran = CliRunner().invoke(app, ["benchmark", "--compare", str(before), str(after)])
    assert ran.exit_code == 1
    assert "worse: inference, vit_tiny_patch16_224" in ran.output
    back = CliRunner().invoke(app, ["benchmark", "--compare", str(after), str(before)])
    assert back.exit_code == 0
    assert "better: inference, vit_tiny_patch16_224" in back.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one model"),
        (["vit_tiny_patch16_242"], "Did you mean"),
        ([ALONE, "--batch", "many"], "--batch needs a number or best, got 'many'"),
        (["--render", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_command_line_errors_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["benchmark", *arguments])
    assert ran.exit_code == 1
    assert message in ran.output
    assert "Traceback" not in ran.output
    assert not list(tmp_path.iterdir())
