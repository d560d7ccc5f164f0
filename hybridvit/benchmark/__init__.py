"""Speed and memory of models of the zoo, side by side with other packages where these have the same model."""

from .compare import Change, compare, report
from .files import append_result, read_results
from .records import BenchmarkError, Result, Settings
from .run import benchmark
from .tables import markdown

__all__ = [
    "BenchmarkError",
    "Change",
    "Result",
    "Settings",
    "append_result",
    "benchmark",
    "compare",
    "markdown",
    "read_results",
    "report",
]
