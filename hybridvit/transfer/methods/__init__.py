"""How a model is adapted: one method a file, and a table of them by the name that a recipe gives."""

from __future__ import annotations

from .base import Method
from .full import Full
from .knn import NearestNeighbours
from .lora import Lora
from .probe import Probe
from .ssf import ScaleAndShift

METHODS: dict[str, Method] = {
    "full": Full(),
    "probe": Probe(),
    "lora": Lora(),
    "ssf": ScaleAndShift(),
    "knn": NearestNeighbours(),
}

__all__ = ["METHODS", "Method"]
