"""What a run shows on the terminal: a bar while it works, a line for each epoch, nothing from the other processes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from torch import Tensor

    from .records import Epoch, Position

T = TypeVar("T")

_REFRESH_SECONDS = 0.5


class Waiting(Generic[T], Iterator[T]):
    """Passes items on, and adds up the seconds that they were waited for."""

    def __init__(self, items: Iterable[T], seconds: float = 0.0) -> None:
        self.items, self.seconds = iter(items), seconds

    def __next__(self) -> T:
        started = time.monotonic()
        try:
            return next(self.items)
        finally:
            self.seconds += time.monotonic() - started


class Progress:
    """`shown=False` is silent. Off a terminal the bar is left out and the lines remain."""

    def __init__(self, shown: bool = True, console: Console | None = None) -> None:
        from rich.console import Console

        self.shown = shown
        self.console = console or Console(stderr=True)
        self.bar = None
        self.refreshed, self.images_since = 0.0, 0

    def start(self, steps: int, done: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        if not (self.shown and self.console.is_terminal):
            return
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("training", total=steps, completed=done, figures="")
        self.bar.start()
        self.refreshed = time.monotonic()

    def step(self, loss_sum: Tensor, correct: Tensor, position: Position, images: int) -> None:
        """One step of `images`, with the epoch's sums so far; they are read when the bar is redrawn."""
        if self.bar is None:
            return
        self.images_since += images
        self.bar.advance(self.task)
        now = time.monotonic()
        if now - self.refreshed >= _REFRESH_SECONDS:
            import torch

            loss, accuracy = loss_sum.item() / position.seen, correct.item() / position.seen
            rate = self.images_since / (now - self.refreshed)
            wait = position.wait_seconds / max(position.train_seconds, 1e-9)
            figures = f"loss {loss:.3f}  acc {accuracy:.3f}  {rate:,.0f} images/s  data wait {wait:.0%}"
            if loss_sum.device.type == "cuda":
                figures += f"  {torch.cuda.max_memory_allocated(loss_sum.device) / 2**30:.1f} GiB"
            self.bar.update(self.task, figures=figures)
            self.refreshed, self.images_since = now, 0

    def epoch(self, line: Epoch, best: bool) -> None:
        memory = f"  {line.gpu_memory_mib / 1024:.1f} GiB" if line.gpu_memory_mib else ""
        self.note(
            f"epoch {line.epoch:3d}  loss {line.train_loss:.4f}  acc {line.train_accuracy:.4f}  "
            f"val loss {line.val_loss:.4f}  val acc {line.val_accuracy:.4f}{' *' if best else '  '}  "
            f"{line.images_per_second:,.0f} images/s  data wait {line.data_wait:.1%}{memory}  {line.seconds:,.0f} s"
        )

    def note(self, text: str) -> None:
        if self.shown:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def checking(self) -> Iterator[Callable[[int, int], None]]:
        """A function that shows (files checked, files in all) under a bar."""
        if not (self.shown and self.console.is_terminal):
            yield lambda done, total: None
            return
        from rich.progress import Progress as Bar

        with Bar(console=self.console, transient=True) as bar:
            task = bar.add_task("checking images")
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def track(self, items: Iterable[T], what: str) -> Iterator[T]:
        """Go through items under a bar of their own."""
        if not (self.shown and self.console.is_terminal):
            yield from items
            return
        from rich.progress import track

        yield from track(items, what, console=self.console, transient=True)

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
