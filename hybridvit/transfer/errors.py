"""What can go wrong with a user's data or training run, each with the fix in its message."""

from __future__ import annotations

from pathlib import Path


class DataError(ValueError):
    """The image data cannot be used as it is."""


class BadImage(DataError):
    """An image that cannot be used; `reason` is one line without the path."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadImage], tuple[Path, str]]:
        return BadImage, (self.path, self.reason)


class RecipeError(ValueError):
    """A recipe is unknown, or one of its fields is."""


class RunDirectoryError(ValueError):
    """The output directory belongs to another run."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the checkpoint that is still good."""


class TrainingInterrupted(KeyboardInterrupt):
    """The user stopped the run; its checkpoint is written and can be resumed."""


class ExportError(ValueError):
    """The model cannot be exported to that format, or the result is not the model."""
