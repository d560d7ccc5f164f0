"""Ctrl-C, and the signal with which clusters end a job, as a request."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_call(request: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM calls `request` with its name, so that the step at hand can finish.

    A second one does what it did before: it stops at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def put_back() -> None:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python

    def first(signum: int, frame: object) -> None:
        put_back()
        request("Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name)

    previous = {number: signal.signal(number, first) for number in _ENDS}
    try:
        yield
    finally:
        put_back()


def find_deaths_at_the_next_batch() -> None:
    """Takes back torch's handler that raises wherever the program is, mid-step or mid-write, when a worker dies.

    The loader finds a dead worker by itself when it waits for a batch. Call it once workers have been started.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, "__module__", "").startswith("torch.utils.data"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
