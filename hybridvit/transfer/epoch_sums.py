"""What a process adds up during an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .parallel import added_up

if TYPE_CHECKING:
    from accelerate import Accelerator


class EpochSums:
    """Losses and right answers of the images so far, on the device, so that adding to them waits for nothing.

    Attributes:
        loss: sum of the losses of all images.
        correct: how many were answered right.
        finite: whether all that was watched was.
    """

    def __init__(self, accelerator: Accelerator, loss: float = 0.0, correct: float = 0.0) -> None:
        self.accelerator = accelerator
        self.loss, self.correct = self._number(loss), self._number(correct)
        self.finite = torch.tensor(True, device=accelerator.device)

    def add(self, loss: Tensor, correct: Tensor, count: int) -> None:
        """The mean loss of `count` images, and how many of them are right."""
        self.loss += loss.to(self.loss.dtype) * count
        self.correct += correct

    def watch(self, value: Tensor) -> None:
        self.finite &= torch.isfinite(value)

    def over_all_processes(self, seen: int) -> list[float]:
        """[loss, correct, images] of all processes together; `seen` are those of this one."""
        return added_up(self.accelerator, self.loss, self.correct, self._number(seen))

    def _number(self, value: float) -> Tensor:
        device = self.accelerator.device
        return torch.tensor(value, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
