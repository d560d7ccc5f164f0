"""What may go wrong with a candidate without ending it for the others."""

from __future__ import annotations

from ..benchmark.search import is_out_of_memory
from ..limits import printable

# Weights that are not there or do not fit, a disk, a model that torch cannot run or that memory cannot hold.
FAILURES = (ValueError, OSError, RuntimeError, MemoryError)
_LONGEST = 300


class RecommendationError(ValueError):
    """No candidate could be judged; the message says why of each, and what to do."""


def why(error: Exception, unreachable: bool = False) -> str:
    """The reason in one line. `unreachable` says that the Hub was found not to answer."""
    if is_out_of_memory(error):
        return "out of memory"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if unreachable:
        first = first.replace("HF_HUB_OFFLINE is set", "the Hub cannot be reached")
    return printable(first, _LONGEST)
