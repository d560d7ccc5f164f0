"""What a run says while it works."""

from __future__ import annotations

import io
import time

import torch
from rich.console import Console

from hybridvit.transfer import progress as progress_module
from hybridvit.transfer.progress import Progress, Waiting
from hybridvit.transfer.records import Position
from tests.transfer.test_logs import history


def test_waiting_counts_the_time_until_an_item_is_there() -> None:
    def slow():
        for item in range(3):
            time.sleep(0.02)
            yield item

    waiting = Waiting(slow(), seconds=10.0)
    for _ in waiting:
        time.sleep(0.05)
    assert 10.06 <= waiting.seconds < 10.15


def test_the_bar_shows_loss_rate_and_wait(monkeypatch) -> None:
    monkeypatch.setattr(progress_module, "_REFRESH_SECONDS", 0.0)
    shown = Progress(console=Console(file=io.StringIO(), force_terminal=True, width=200))
    shown.start(10, done=0)
    position = Position(seen=8, train_seconds=2.0, wait_seconds=0.5)
    shown.step(torch.tensor(4.0), torch.tensor(6.0), position, images=8)
    assert shown.bar is not None
    figures = shown.bar.tasks[0].fields["figures"]
    shown.stop()
    assert figures.startswith("loss 0.500  acc 0.750  ")
    assert figures.endswith("images/s  data wait 25%")


def test_the_line_of_an_epoch_has_the_wait_and_the_memory_of_a_gpu() -> None:
    text = io.StringIO()
    shown = Progress(console=Console(file=text, width=200))
    (line,) = history(1)
    shown.epoch(line, best=True)
    line.gpu_memory_mib = 2048.0
    shown.epoch(line, best=False)
    first, second = text.getvalue().splitlines()
    assert "val acc 0.2500 *  100 images/s  data wait 4.0%  1 s" in first
    assert "data wait 4.0%  2.0 GiB  1 s" in second
