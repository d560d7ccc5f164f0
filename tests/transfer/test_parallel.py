"""Several processes train as one does with the same global batch, also where each has a share of the model only."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import hybridvit as hv
from hybridvit.transfer.checkpoint import load_checkpoint
from hybridvit.transfer.parallel import AGREE_EVERY, agreed
from hybridvit.transfer.resume import LAST_CHECKPOINT
from tests.transfer.samples import write_idx

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def idx(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"idx:{write_idx(tmp_path_factory.mktemp('idx'), {'train': 200, 't10k': 30})}"


def launch(data: str, out: Path, world: int = 2, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """(the log, what the first process said)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(world):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.transfer.together", data, str(out), json.dumps(options)],
                cwd=PROJECT,
                env=os.environ | master | (own if world > 1 else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, "\n".join(said)
    log = out / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else [], said[0]


@pytest.fixture(scope="module")
def alone(idx: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    launch(idx, out, world=1)
    return out


def require_same_figures(found: list[dict[str, Any]], alone: Path) -> None:
    expected = [json.loads(line) for line in (alone / "log.jsonl").read_text().splitlines()]
    for one, other in zip(found, expected, strict=True):
        for figure in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
            assert one[figure] == pytest.approx(other[figure], rel=1e-3), figure


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 3}, {"fsdp": True}, {"fsdp": True, "accumulate": 2, "checkpointing": True}], ids=str
)
def test_two_processes_learn_as_one(idx: str, alone: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    found, _ = launch(idx, tmp_path, **options)
    require_same_figures(found, alone)
    one, two = (load_checkpoint(place / LAST_CHECKPOINT)[0] for place in (alone, tmp_path))
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    best = hv.create_model(f"local-dir:{tmp_path / 'best'}").state_dict()
    assert best.keys() == hv.create_model(f"local-dir:{alone / 'best'}").state_dict().keys()


@pytest.mark.slow
def test_a_process_without_room_makes_all_divide_their_batches(idx: str, alone: Path, tmp_path: Path) -> None:
    found, said = launch(idx, tmp_path, room=3)
    assert "each batch is computed in 4 parts" in said
    require_same_figures(found, alone)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"fsdp": True}], ids=str)
def test_all_processes_stop_together_and_resume_where_one_is_asked_to(
    idx: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    straight, _ = launch(idx, tmp_path / "straight", **options)
    _, said = launch(idx, tmp_path / "run", stop=13, **options)
    assert "SIGTERM: stopping after this step" in said
    assert "stopped in epoch 2 of 2 after" in said
    resumed, _ = launch(idx, tmp_path / "run", resume=True, **options)
    for one, other in zip(resumed, straight, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)
    (tensors, _), (expected, _) = (load_checkpoint(tmp_path / name / LAST_CHECKPOINT) for name in ("run", "straight"))
    for name, value in tensors.items():
        assert torch.equal(value, expected[name]), name


def test_several_ask_each_other_only_now_and_then() -> None:
    asked: list[list[float]] = []

    def reduce(wishes: torch.Tensor, reduction: str) -> torch.Tensor:
        asked.append(wishes.tolist())
        return wishes + torch.tensor([1.0, 0.0])

    several: Any = SimpleNamespace(num_processes=2, device=torch.device("cpu"), reduce=reduce)
    assert agreed(several, 1, True, True) == (False, False)
    assert not asked
    assert agreed(several, AGREE_EVERY, False, False) == (True, False)
    assert asked == [[0.0, 0.0]]
    one: Any = SimpleNamespace(num_processes=1)
    assert agreed(one, 1, True, False) == (True, False)
