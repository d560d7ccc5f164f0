"""A benchmark of tiny models on the CPU, and everything that stops one."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hybridvit.benchmark import BenchmarkError, Settings, benchmark, read_results
from hybridvit.benchmark import run as run_module
from hybridvit.benchmark.machine import allocator, commit, machine
from hybridvit.benchmark.memory import peak_memory_mib
from hybridvit.benchmark.records import Gpu
from hybridvit.benchmark.sides import OURS, PEER, PEER_CHANNELS_LAST, Case, build, runner
from hybridvit.cli import app
from hybridvit.keys import KeyRules
from hybridvit.registry import UnknownNameError

ALONE, WITH_PEER = "cct_2_3x2_32", "tf_efficientnet_lite0"
QUICK = Settings(threads=1, rounds=3, round_seconds=0.001, warmup=1)


def test_sides_are_measured_in_pairs_with_equal_weights() -> None:
    (result,) = benchmark([WITH_PEER], [2], QUICK, img_size=(32, 48), memory=False)
    assert [side.name for side in result.sides] == [OURS, PEER, PEER_CHANNELS_LAST]
    assert (result.model, result.batch, result.img_size) == (WITH_PEER, 2, (32, 48))
    assert result.params == 4_652_008
    assert result.difference is not None
    assert result.difference < 1e-3
    ours, *peers = result.sides
    assert ours.figures["latency"].ratio is None
    for side in result.sides:
        latency = side.figures["latency"]
        assert len(latency.values) == 3
        assert min(latency.values) > 0
        assert side.figures["throughput"].spread.median == pytest.approx(2 / latency.spread.median, rel=1e-3)
    for peer in peers:
        pairs = zip(peer.figures["latency"].values, ours.figures["latency"].values, strict=True)
        ratio = peer.figures["latency"].ratio
        assert ratio is not None
        assert ratio.median == pytest.approx(sorted(theirs / mine for theirs, mine in pairs)[1], rel=1e-3)


def test_a_model_without_a_peer_runs_alone() -> None:
    (result,) = benchmark([ALONE], [1], QUICK, memory=False)
    assert [side.name for side in result.sides] == [OURS]
    assert result.difference is None


def test_other_weights_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    to_ours = KeyRules.to_ours
    monkeypatch.setattr(KeyRules, "to_ours", lambda *args: {key: 1.1 * t for key, t in to_ours(*args).items()})
    with pytest.raises(BenchmarkError, match=r"outputs differ from timm's by .* --no-peer"):
        list(benchmark([WITH_PEER], [1], QUICK, img_size=(32, 32), memory=False))


@pytest.mark.parametrize(
    ("precision", "weights", "output"),
    [
        ("fp32", torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("amp-bf16", torch.float32, torch.bfloat16),
    ],
)
def test_precision_of_weights_and_outputs(precision: str, weights: torch.dtype, output: torch.dtype) -> None:
    settings = Settings(precision=precision)  # pyright: ignore[reportArgumentType]
    case = Case(model=ALONE, batch=2, img_size=(32, 32), settings=settings)
    model = build(case, OURS)
    run = runner(model, case, OURS)
    assert next(model.parameters()).dtype == weights
    assert run().dtype == output
    assert run().shape == (2, 10)


def test_only_timm_in_channels_last_is_moved_to_it() -> None:
    case = Case(model=WITH_PEER, batch=1, img_size=(32, 32), settings=QUICK)
    model = build(case, PEER)
    runner(model, case, PEER)
    assert model.get_parameter("conv_stem.weight").is_contiguous()
    runner(model, case, PEER_CHANNELS_LAST)
    assert model.get_parameter("conv_stem.weight").is_contiguous(memory_format=torch.channels_last)


def test_compiled_sides_give_the_same() -> None:
    case = Case(model=ALONE, batch=2, img_size=(32, 32), settings=Settings(compile="default"))
    compiled: list[bool] = []

    def remember(model: torch.nn.Module, dynamic: bool, mode: str) -> torch.nn.Module:
        compiled.append(dynamic)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", remember)
        runner(build(case, OURS), case, OURS)()
    assert compiled == [False]


def test_memory_grows_with_the_batch_in_a_process_of_its_own() -> None:
    """A batch of 256 holds at least the 64 channels of the first convolution at 32 x 32 in float32: 64 MiB."""
    case = Case(model=ALONE, batch=256, img_size=(32, 32), settings=QUICK)
    peak = peak_memory_mib(case, OURS)
    assert peak is not None
    assert 64 < peak < 1024


def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BenchmarkError, match="--no-memory"):
        peak_memory_mib(Case(model=ALONE, batch=1, img_size=(32, 32), settings=QUICK), OURS)


@pytest.mark.parametrize(
    ("settings", "batches", "message"),
    [
        (Settings(device="cuda"), [1], "finds no device 'cuda'"),
        (Settings(device="cuda:7"), [1], "finds no device 'cuda:7'"),
        (Settings(device="toaster"), [1], "no device 'toaster'"),
        (Settings(precision="tf32"), [1], "tf32"),
        (Settings(precision="fp8"), [1], "precision must be one of"),  # pyright: ignore[reportArgumentType]
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


def test_unknown_models_stop_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_measure", lambda *args: pytest.fail("measured"))
    with pytest.raises(UnknownNameError, match="Did you mean"):
        next(benchmark([ALONE, "cct_2_3x2_23"], [1], QUICK))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
    ],
)
def test_out_of_memory_names_the_way_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(run_module, "interleaved", fail)
    with pytest.raises(BenchmarkError, match=r"batch 7 at 32x32 does not fit .* smaller --batch"):
        list(benchmark([ALONE], [7], QUICK))


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a bug")

    threads = torch.get_num_threads()
    monkeypatch.setattr(run_module, "interleaved", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        list(benchmark([ALONE], [1], Settings(threads=threads + 1)))
    assert torch.get_num_threads() == threads


def test_machine_and_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine("cpu")
    assert here.cpu
    assert here.cores >= 1
    assert here.memory_gib > 0
    assert here.gpu is None
    monkeypatch.setenv("MALLOC_TOP_PAD_", "67108864")
    monkeypatch.setenv("UNRELATED", "1")
    assert allocator()["MALLOC_TOP_PAD_"] == "67108864"
    assert "UNRELATED" not in allocator()


def test_what_is_known_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=80 * 2**30)
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    asked: list[list[str]] = []

    def smi(command: list[str], **_: object) -> types.SimpleNamespace:
        asked.append(command)
        return types.SimpleNamespace(stdout="570.1, 1980, 1980, [N/A], 700.00\n")

    monkeypatch.setattr("hybridvit.benchmark.machine.subprocess.run", smi)
    gpu = machine("cuda:1").gpu
    assert gpu == Gpu(
        name="GPU of cuda:1",
        memory_gib=80.0,
        count=2,
        driver="570.1",
        clock_mhz=1980,
        max_clock_mhz=1980,
        power_w=None,
        power_limit_w=700.0,
    )
    assert "--id=7" in asked[0], "torch's second GPU is the driver's eighth"


def test_a_gpu_of_a_silent_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=2**30))
    monkeypatch.setenv("PATH", "")
    gpu = machine("cuda").gpu
    assert gpu is not None
    assert (gpu.name, gpu.driver, gpu.clock_mhz, gpu.power_limit_w) == ("GPU", None, None, None)


def test_commit_is_of_this_checkout_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = tmp_path / "hybridvit" / "benchmark" / "machine.py"
    monkeypatch.setattr("hybridvit.benchmark.machine.__file__", str(installed))
    installed.parent.mkdir(parents=True)
    assert commit() is None


def test_command_line_writes_and_renders(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    arguments = [ALONE, "--batch", "1", "--rounds", "2", "--round-seconds", "0.001", "--threads", "1", "--no-memory"]
    ran = CliRunner().invoke(app, ["benchmark", *arguments, "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    (result,) = read_results(out)
    assert (result.model, result.settings.rounds, len(result.sides[0].figures["latency"].values)) == (ALONE, 2, 2)
    assert json.loads(out.read_text())["versions"]["torch"] == torch.__version__
    rendered = CliRunner().invoke(app, ["benchmark", "--render", str(out)])
    assert rendered.exit_code == 0
    assert f"| {ALONE} | hybridvit | 0.28M |" in rendered.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one model"),
        (["vit_tiny_patch16_242"], "Did you mean"),
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
