"""What a checkpoint has of a run, and what it is refused for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .optimizers import optimizer_tensors
from .parallel import all_whole
from .records import Epoch, Position

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim.swa_utils import AveragedModel

LAST_CHECKPOINT = Path("checkpoints", "last.safetensors")
_SHOWN = 3  # differences that a message names
_LONGEST = 60


@dataclass(frozen=True)
class SavedRun:
    """The parts of a run that its checkpoint has. `identity` is JSON data that a resumed run has to share."""

    path: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    scaler: torch.amp.GradScaler
    identity: dict[str, Any]

    def write(self, position: Position, history: Sequence[Epoch], main: bool) -> None:
        """Called in all processes, of which the main one writes."""
        parts = {"model": self.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        tensors = all_whole(joined(parts), wanted=main)
        if not main:
            return
        state = {
            "identity": self.identity,
            "position": asdict(position),
            "history": [asdict(line) for line in history],
            "scaler": self.scaler.state_dict(),
        }
        save_checkpoint(self.path, tensors, state)

    def read(self) -> tuple[Position, list[Epoch], dict[str, Tensor]]:
        """Position, history and the optimizer's tensors; the rest is put in place.

        Raises CheckpointError for a file that is no checkpoint, or that of another run.
        """
        tensors, state = load_checkpoint(self.path)
        require_same(self.path, state["identity"], self.identity)
        self.model.load_state_dict(part_of(tensors, "model"))
        if self.average is not None:
            self.average.load_state_dict(part_of(tensors, "average"))
        self.scaler.load_state_dict(state["scaler"])
        history = [Epoch(**line) for line in state["history"]]
        return Position(**state["position"]), history, part_of(tensors, "optimizer")


def joined(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """{"model": {"head.weight": ...}} -> {"model.head.weight": ...}."""
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The inverse of `joined` for one part."""
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def require_same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another model or other data; both are JSON data by what they describe."""
    for name, value in expected.items():
        if found.get(name) != value:
            said = list(differences(found.get(name), value))
            shown = ", ".join(said[:_SHOWN]) + (f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else "")
            raise CheckpointError(
                f"{path} belongs to a run with another {name}; resume with the same model and data, or start in a new "
                f"output directory. The checkpoint has {shown}"
            )


def differences(found: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Where two values of JSON data differ, one text a place."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for key in dict.fromkeys((*found, *expected)):
            yield from differences(found.get(key), expected.get(key), f"{where}.{key}" if where else key)
    elif _is_list(found) and _is_list(expected) and len(found) == len(expected):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif _is_list(found) and _is_list(expected):
        yield f"{len(found)} {where or 'items'}, this run {len(expected)}"
    elif found != expected:
        yield f"{where} {_short(found)}, this run {_short(expected)}".strip()


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
