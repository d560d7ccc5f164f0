"""What a method of adaptation is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...encoder import Encoder
    from ..recipe import Recipe
    from ..trainer import Trainer


class Method:
    """How a model is adapted. Methods have no state: it is in the model, so that checkpoints hold it.

    saves_model: whether the result is a model, or figures only.
    """

    saves_model = True

    def require(self) -> None:
        """Raises ModuleNotFoundError if a library is missing."""

    def prepare(self, model: Encoder, recipe: Recipe) -> None:
        """Change the model in place so that exactly what is to be trained needs gradients.

        The same model and recipe give the same result, so that a checkpoint fits the model that a resumed run makes.
        """
        model.freeze(recipe.freeze)

    def fit(self, trainer: Trainer, resume: bool) -> None:
        """Train to the end."""
        trainer.fit(resume=resume)

    def merged(self, model: Encoder) -> Encoder:
        """A plain model with the same outputs, to be saved; the one given is left as it is."""
        return model


def record_result(trainer: Trainer, started: float) -> None:
    """What a method without epochs leaves: the figure of the trainer's model on the validation images."""
    trainer.position.best_accuracy = trainer.evaluate(trainer.data.val).figure
    trainer.position.seconds = time.monotonic() - started
