"""What a run knows about itself: where it is, and a line for each epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .metrics import Evaluation
    from .multilabel import MultiLabelEvaluation


@dataclass
class Epoch:
    """One line of the log. Rates are images a second of the training part, seconds since the run began.

    Attributes:
        data_wait: share of the training part that was spent waiting for the next batch; with a GPU, which works
            meanwhile, an upper limit of what waiting cost.
        gpu_memory_mib: most memory that the run held on its GPU so far; 0 without one.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    images_per_second: float
    seconds: float
    data_wait: float = 0.0
    gpu_memory_mib: float = 0.0

    @classmethod
    def of(
        cls,
        position: Position,
        step: int,
        lr: float,
        loss_sum: float,
        correct: float,
        seen: float,
        evaluation: Evaluation | MultiLabelEvaluation,
        gpu_memory: int,
    ) -> Epoch:
        """The line of the epoch that ended at a position, from sums over all processes; gpu_memory: in bytes."""
        return cls(
            epoch=position.epoch,
            step=step,
            lr=lr,
            train_loss=loss_sum / seen,
            train_accuracy=correct / seen,
            val_loss=evaluation.loss,
            val_accuracy=evaluation.figure,
            images_per_second=seen / max(position.train_seconds, 1e-9),
            seconds=position.seconds,
            data_wait=position.wait_seconds / max(position.train_seconds, 1e-9),
            gpu_memory_mib=gpu_memory / 2**20,
        )


@dataclass
class Position:
    """Where a run is: epochs done, batches done in the one at hand, that epoch's sums so far, and the best yet.

    `parts` is into how many parts each batch is divided, which changes where memory runs out; 0 before the first step.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    seen: int = 0
    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    probe_accuracy: float | None = None
    baselines: dict[str, float] | None = None
    parts: int = 0

    def at_next_epoch(self) -> Position:
        """The same at the beginning of the epoch that follows those that are done."""
        return replace(self, batch=0, loss_sum=0.0, correct=0.0, seen=0, train_seconds=0.0, wait_seconds=0.0)
