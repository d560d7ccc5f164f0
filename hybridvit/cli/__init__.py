"""The command line. Each command is a thin function over the Python API and imports what it needs when it runs."""

# They register their commands, in this order.
from . import recommending, training, shipping, benchmarking, zoo, weights
from .application import app

__all__ = ["app"]
