"""One at a time: a lock on a directory itself, of which nothing stays behind, not even after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


@contextmanager
def held(directory: Path, wait: bool = True) -> Iterator[bool]:
    """Holds a directory against other threads and processes that hold it so. Gives whether it does.

    It does not while another one has it and `wait` is False, nor where the file system has no such locks.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(directory, os.O_RDONLY)
    has = False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            has = True
        except OSError:
            pass
        yield has
    finally:
        if has:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has the descriptor too
        os.close(descriptor)
