"""What a run knows about itself: where it is, and a line for each epoch."""

from __future__ import annotations

from dataclasses import dataclass


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
