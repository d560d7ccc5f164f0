"""One at a time, and whole or not at all: what several processes write, and what may be killed while it writes.

A lock on a directory is on the directory itself, of which nothing stays behind, not even after a kill. What stays of
one on a file, and of what was written there, the next one takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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


@contextmanager
def alone(path: Path, patience: float | None = None) -> Iterator[None]:
    """Inside, no other thread or process is so with a file, which need not exist yet; of a link, the file behind it.

    Raises TimeoutError for one that stays for more than `patience` seconds.
    """
    from huggingface_hub.utils import WeakFileLock

    real = Path(os.path.realpath(path))
    lock = real.with_name(f".{real.name}.held")
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(lock, timeout=patience))
        except TimeoutError as error:
            raise TimeoutError(
                f"another process has been writing {path} for {patience} seconds; try again, and if there is none, "
                f"remove {lock}"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()  # while it is held: who waits for it sees that it is gone, and takes a new one


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of a file in the end, if nothing is raised. To be used `alone`."""
    new = path.with_name(f".{path.name}.writing")
    try:
        yield new
        settle(new)
        os.replace(new, path)
    finally:
        with suppress(OSError):
            new.unlink()


def settle(path: Path) -> None:
    """Lets others read a file, and the disk have it before it gets its name."""
    path.chmod(0o644)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
