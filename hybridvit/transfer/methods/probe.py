"""A linear probe as a run of its own: the classifier alone, on features that are computed once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .base import Method, record_result

if TYPE_CHECKING:
    from ...encoder import Encoder
    from ..recipe import Recipe
    from ..trainer import Trainer


class Probe(Method):
    """Trains the classifier for `probe_epochs`, or `epochs` where that is 0."""

    def prepare(self, model: Encoder, recipe: Recipe) -> None:
        model.freeze(len(model.layers()))
        model.head.requires_grad_(True)

    def fit(self, trainer: Trainer, resume: bool) -> None:
        started = time.monotonic()
        trainer._probe()
        record_result(trainer, started)
        if trainer.accelerator.is_main_process:
            trainer.keep(trainer.model, trainer.position)
