"""What can go wrong with a user's data or training run, each with the fix in its message."""


class DataError(ValueError):
    """The image data cannot be used as it is."""


class RecipeError(ValueError):
    """A recipe is unknown, or one of its fields is."""


class RunDirectoryError(ValueError):
    """The output directory belongs to another run."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the checkpoint that is still good."""


class TrainingInterrupted(KeyboardInterrupt):
    """The user stopped the run; its checkpoint is written and can be resumed."""
