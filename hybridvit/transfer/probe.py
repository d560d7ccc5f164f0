"""A linear probe: the classifier alone, trained on embeddings that are computed once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import TrainingError
from .loader import EVAL_BATCH, seed_of
from .optimizers import rate_at

if TYPE_CHECKING:
    from ..encoder import Encoder
    from .losses import Loss
    from .recipe import Recipe


def train_head(model: Encoder, features: Tensor, labels: Tensor, recipe: Recipe, loss_of: Loss) -> None:
    """Train the head in place by the loss of logits and labels, for `probe_epochs`, or `epochs` where that is 0.

    features: (N, D), labels: (N,) or targets (N, classes), where the model is.

    Raises TrainingError for a loss that is not finite.
    """
    count = len(labels)
    epochs = recipe.probe_epochs or recipe.epochs
    batch = min(EVAL_BATCH, max(1, count // 8))
    per_epoch = -(-count // batch)
    parameters = [parameter for parameter in model.head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.probe_lr, weight_decay=recipe.weight_decay, fused=True)
    model.head.train()
    for epoch in range(epochs):
        torch.manual_seed(seed_of(recipe.seed, "probe", epoch))
        loss_sum = torch.zeros((), device=features.device)
        for number, indices in enumerate(torch.randperm(count).split(batch)):
            rate = rate_at(epoch * per_epoch + number, epochs * per_epoch, 0)
            optimizer.param_groups[0]["lr"] = recipe.probe_lr * rate
            picked = indices.to(features.device)
            logits = model.forward_head(features[picked])
            loss = loss_of(logits.float(), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach()
        if not math.isfinite(total := loss_sum.item()):  # once an epoch, for it waits for the GPU
            raise TrainingError(f"the linear probe's loss became {total}; lower probe_lr ({recipe.probe_lr})")
    model.head.eval()
