"""Models to ask: with a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..weights.load import load_model
from .errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from ..encoder import Encoder


def load_classifier(model: str | Path | Encoder) -> Encoder:
    """`load_model`; raises DataError for a model that has no classifier."""
    loaded = load_model(model)
    if loaded.spec.num_classes == 0:
        raise DataError("the model has no classifier; create it with num_classes, or fine-tune it first")
    return loaded
