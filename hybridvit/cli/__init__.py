"""The command line. Each command is a thin function over the Python API and imports what it needs when it runs."""

from . import training, shipping, benchmarking, zoo, weights  # they register their commands, in this order
from .application import app

__all__ = ["app"]
