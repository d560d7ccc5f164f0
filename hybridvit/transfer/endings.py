"""How a run ends before its time, in words: what happened, what is kept, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import TrainingError, TrainingInterrupted

if TYPE_CHECKING:
    from pathlib import Path

    from .recipe import Recipe
    from .records import Position


def last_good(checkpoint: Path) -> str:
    kept = checkpoint.is_file()
    return f"The last good checkpoint is {checkpoint}." if kept else "No checkpoint had been written yet."


def not_finite(position: Position, recipe: Recipe, step: int, rate: float, checkpoint: Path) -> TrainingError:
    half = "" if recipe.precision == "fp32" else " or precision fp32,"
    return TrainingError(
        f"the loss or its gradient became NaN or infinite by step {step} (epoch {position.epoch + 1}, rate "
        f"{rate:.3g}). {last_good(checkpoint)} Try a lower lr,{half} a longer warm-up or grad_clip, in a new output "
        "directory."
    )


def unreadable(error: Exception, checkpoint: Path) -> TrainingError:
    reason = str(error).rstrip(".")
    return TrainingError(f"{reason}. {last_good(checkpoint)} Resume with resume=True (--resume).")


def interrupted(position: Position, recipe: Recipe, checkpoint: Path) -> TrainingInterrupted:
    best = f"best so far: {position.best_accuracy:.4f} in epoch {position.best_epoch}" if position.best_epoch else ""
    return TrainingInterrupted(
        f"stopped in epoch {position.epoch + 1} of {recipe.epochs} after {position.batch} batches; "
        f"{best or 'no epoch done'}. Checkpoint: {checkpoint}. Resume with resume=True (--resume)."
    )
