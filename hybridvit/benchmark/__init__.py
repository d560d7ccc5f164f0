"""Speed and memory of models of the zoo, side by side with timm where timm has the same model."""

from .records import BenchmarkError, Result, Settings, append_result, read_results
from .run import benchmark
from .tables import markdown

__all__ = ["BenchmarkError", "Result", "Settings", "append_result", "benchmark", "markdown", "read_results"]
