"""What is wrong with weights that were found."""


class WeightsError(ValueError):
    """A weight file or config cannot be read, or is not what it should be; the message says why and what to do."""


class UnreadableError(WeightsError):
    """The bytes of a weight file are damaged, or are something else."""
