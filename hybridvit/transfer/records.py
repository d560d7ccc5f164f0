"""What a run knows about itself: where it is, and a line for each epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Epoch:
    """One line of the log. Rates are images a second of the training part, seconds since the run began."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    images_per_second: float
    seconds: float


@dataclass
class Position:
    """Where a run is: epochs done, batches done in the one at hand, that epoch's sums so far, and the best yet."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    seen: int = 0
    train_seconds: float = 0.0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    probe_accuracy: float | None = None
    baselines: dict[str, float] | None = None
