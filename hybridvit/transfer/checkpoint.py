"""Checkpoints: one safetensors file with the tensors and, in its header, the rest of a run's state. No pickle."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable

_STATE = "state"


class CheckpointError(TrainingError):
    """A checkpoint or another file of a run cannot be written or read."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path in the same directory, then put it in place; on an error nothing changes."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        kept = "; what was written before is unharmed" if path.exists() else ""
        raise CheckpointError(f"cannot write {path}: {error}{kept}. {advice(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def advice(error: Exception) -> str:
    """What to do about a file that could not be written."""
    # safetensors gives the system's error as text only.
    full = any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    return "Free some space and resume." if full else "Resume once that place can be written."


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """state: JSON data. The earlier file of that name stays until the new one is complete."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(ready, temporary, {_STATE: json.dumps(state)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_checkpoint` wrote, on the CPU."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()[_STATE])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint {path}") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of a training run: {error}") from error
