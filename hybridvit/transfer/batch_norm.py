"""What batch norms do while the rest is fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

if TYPE_CHECKING:
    from ..encoder import Encoder
    from .recipe import Recipe

SMALL_BATCH = 32  # images up to which the statistics of a batch are worse than those of pretraining


def hold_batch_norm(model: Encoder, recipe: Recipe, pretrained: bool) -> None:
    """Keeps statistics, or weights and biases too, from being trained, as the recipe's `batch_norm` says."""
    policy = recipe.batch_norm
    if policy == "auto":
        policy = "statistics" if pretrained and recipe.batch_size <= SMALL_BATCH else "train"
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    model.held = [*norms] if policy != "train" else []
    model.train(model.training)
    if policy == "freeze":
        for norm in norms:
            norm.requires_grad_(False)
