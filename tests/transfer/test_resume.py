"""No work is lost: whatever ends a run, its checkpoint resumes to the weights that it would have had."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from hybridvit.transfer import checkpoint, pixel_sources
from hybridvit.transfer.checkpoint import CheckpointError
from hybridvit.transfer.data import Data, load_data
from hybridvit.transfer.errors import TrainingError, TrainingInterrupted
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.resume import LAST_CHECKPOINT, differences
from hybridvit.transfer.run import finetune
from tests.transfer.kills import CASES, require_equal
from tests.transfer.samples import folder_of, write_idx
from tests.transfer.test_trainer import trainer

PROJECT = Path(__file__).resolve().parents[2]
FILES = Recipe(epochs=2, batch_size=8, lr=2e-3, augment="standard", drop_path=0.2, ema_decay=0.9)


@pytest.fixture
def files(tmp_path: Path) -> Data:
    return load_data(folder_of(tmp_path / "images", {"a": 20, "b": 20, "c": 20}))


@pytest.fixture
def quick_to_find_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks every five seconds."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


def battered(folder: Path, kills: int, *cases: str) -> None:
    """Runs of each case, killed that often, end as one that was not."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.transfer.kills", str(folder), str(kills), *cases],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.findall(r"killed (\d+) times", done.stdout)
    assert list(map(int, counts)) == [kills] * len(cases)


def test_killed_3_times(tmp_path: Path) -> None:
    battered(tmp_path, 3, "all at once")


@pytest.mark.slow
def test_killed_20_times_in_each_case(tmp_path: Path) -> None:
    battered(tmp_path, 20, *CASES)


def resumed_equals_straight(data: Data, folder: Path, recipe: Recipe) -> None:
    trainer(data, folder / "run", recipe).fit(resume=True)
    trainer(data, folder / "straight", recipe).fit()
    require_equal(folder / "run", folder / "straight")


def saved_position(run: Path) -> tuple[int, int]:
    """(epochs, batches) that a checkpoint has."""
    position = checkpoint.load_checkpoint(run / LAST_CHECKPOINT)[1]["position"]
    return position["epoch"], position["batch"]


def exits() -> None:
    os._exit(3)


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("dies", [exits, is_killed])
@pytest.mark.usefixtures("quick_to_find_the_dead")
def test_a_worker_that_dies_costs_no_step(
    files: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: Callable[[], None]
) -> None:
    real, read = pixel_sources.Pixels.augmented, []

    def deadly(self: Any, epoch: int, index: int) -> Any:
        read.extend([index] if epoch == 1 else [])
        if len(read) > 20:
            dies()
        return real(self, epoch, index)

    run = trainer(files, tmp_path / "run", FILES, workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(pixel_sources.Pixels, "augmented", deadly)
        with pytest.raises(TrainingError, match=r"crashed or was killed.*take fewer.*good checkpoint is .*--resume"):
            run.fit()
    assert run.position.epoch == 1  # and as many batches as had reached the main process
    assert run.position.batch in (1, 2)
    assert saved_position(tmp_path / "run") == (1, run.position.batch)
    resumed_equals_straight(files, tmp_path, FILES)


def test_a_file_that_vanishes_costs_no_step(files: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_sources, "MEMORY_LIMIT", 0)
    run = trainer(files, tmp_path / "run", FILES)
    assert files.train.root is not None
    path = files.train.root / files.train.names[0]
    content = path.read_bytes()
    run.model.register_forward_pre_hook(lambda *_: path.unlink(missing_ok=True) if run.position.epoch else None)
    with pytest.raises(TrainingError, match=rf"{files.train.names[0]}: cannot be read: .*good checkpoint is"):
        run.fit()
    path.write_bytes(content)
    assert saved_position(tmp_path / "run") == (1, run.position.batch)
    assert run.position.batch > 0
    resumed_equals_straight(files, tmp_path, FILES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_to_all_processes_of_a_run_ends_it_after_the_step(
    files: Data, tmp_path: Path, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A terminal sends Ctrl-C to the loader's processes too, and some clusters SIGTERM."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGTERM)}
    run = trainer(files, tmp_path / "run", FILES, workers=1)

    def end(*_: Any) -> None:
        if (run.position.epoch, run.position.batch) == (1, 1) and not run.stop_requested:
            for process in multiprocessing.active_children():
                os.kill(process.pid or 0, number)
            signal.raise_signal(number)

    run.model.register_forward_pre_hook(end)
    try:
        with pytest.raises(TrainingInterrupted, match=r"epoch 2 of 2 after 2 batches; best so far: .*--resume"):
            run.fit()
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert "Traceback" not in capfd.readouterr().err  # of a process that reads images
    resumed_equals_straight(files, tmp_path, FILES)


@pytest.mark.parametrize("file", ["log.csv", "log.jsonl", "last.safetensors"])
def test_a_full_disk_costs_no_more_than_what_is_being_written(
    files: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        if file in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, os.strerror(28))
        real(descriptor)

    run = trainer(files, tmp_path / "run", FILES, checkpoint_seconds=0.0)
    run.model.register_forward_pre_hook(
        lambda *_: monkeypatch.setattr(os, "fsync", full) if run.position.epoch else None
    )
    with pytest.raises(CheckpointError, match=rf"cannot write .*{file}: .*No space left.*unharmed. Free some space"):
        run.fit()
    monkeypatch.undo()
    assert not list((tmp_path / "run").rglob("*.tmp"))
    resumed_equals_straight(files, tmp_path, FILES)


def test_a_full_disk_for_the_model_leaves_a_run_that_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    recipe = Recipe(epochs=1, batch_size=16, augment="gentle", channels=1, image_size=16)

    def run(resume: bool) -> Any:
        return finetune(
            "cct_2_3x2_32", data, tmp_path / "run", recipe=recipe, pretrained=False, progress=False, resume=resume
        )

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr("hybridvit.weights.store.save_file", full)
        with pytest.raises(CheckpointError, match=r"No space left on device.*Free some space and resume"):
            run(resume=False)
    assert run(resume=True).best_epoch == 1


def test_another_model_or_other_data_are_refused_with_what_differs(files: Data, tmp_path: Path) -> None:
    def run(**identity: Any) -> Any:
        made = trainer(files, tmp_path, FILES.replace(epochs=1))
        made.identity.clear()
        made.identity.update(identity)
        return made

    first = {"model": {"stages": [{"dim": 8}, {"dim": 16}], "head": "linear"}, "data": {"train": 40, "classes": ["a"]}}
    run(**first).fit()
    other = {"stages": [{"dim": 8}, {"dim": 32}], "head": "linear"}
    with pytest.raises(CheckpointError, match=r"another model; .* has stages\[1\].dim 16, this run 32$"):
        run(**first | {"model": other}).fit(resume=True)
    with pytest.raises(CheckpointError, match=r"another data; .* has train 40, this run 41, 1 classes, this run 2$"):
        run(**first | {"data": {"train": 41, "classes": ["a", "b"]}}).fit(resume=True)


def test_differences_of_long_values_are_cut_short() -> None:
    (said,) = differences({"a": "x" * 1000}, {"a": None})
    assert len(said) < 100


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_saving_holds_no_second_copy(tmp_path: Path) -> None:
    """One tensor at a time, also of those that the file has in another memory layout."""
    shape, count, mib = (64, 64, 16, 16), 24, 4
    tensors = {str(i): torch.rand(shape).contiguous(memory_format=torch.channels_last) for i in range(count)}

    def memory(field: str) -> float:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    checkpoint.save_checkpoint(tmp_path / "a.safetensors", tensors, {})
    assert memory("VmHWM") - before < count * mib / 2
    loaded, _ = checkpoint.load_checkpoint(tmp_path / "a.safetensors")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
