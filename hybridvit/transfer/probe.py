"""A linear probe: the classifier alone, fitted to embeddings that are computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .errors import TrainingError
from .loader import seed_of

if TYPE_CHECKING:
    from ..encoder import Encoder
    from .losses import Loss
    from .recipe import Recipe

_LEAST_SHARE = 0.01  # of the mean deviation: a feature that varies less is not scaled up further, it may be noise


def fit_head(model: Encoder, features: Tensor, labels: Tensor, recipe: Recipe, loss_of: Loss) -> None:
    """Fit the head in place to the loss of logits and labels, by L-BFGS over all images at a time.

    It takes at most `probe_epochs` steps, or `epochs` where that is 0, each of about one pass. Weights pay
    `probe_decay` times half their squares beside the sum of the losses. A linear layer is fitted from zero to
    standardised features, and then changed to take the features as they are; another head is fitted as it stands.

    features: (N, D), labels: (N,) or targets (N, classes), where the model is.

    Raises TrainingError for features that are not finite.
    """
    if not features.isfinite().all():
        raise TrainingError("the model gives features that are infinite or NaN; check its weights, or use fp32")
    head = model.head
    if isinstance(head, nn.Linear):
        scale, centre = torch.std_mean(features, dim=0, correction=0)
        scale = scale.clamp_min(_LEAST_SHARE * scale.mean()).clamp_min(torch.finfo(scale.dtype).tiny)
        if head.bias is None:  # which could not take the centre back
            centre = torch.zeros_like(centre)
        nn.init.zeros_(head.weight)
        _fit(model, (features - centre) / scale, labels, recipe, loss_of)
        with torch.no_grad():
            head.weight.div_(scale)
            if head.bias is not None:
                head.bias.sub_(head.weight @ centre)
    else:
        _fit(model, features, labels, recipe, loss_of)


def _fit(model: Encoder, features: Tensor, labels: Tensor, recipe: Recipe, loss_of: Loss) -> None:
    parameters = [parameter for parameter in model.head.parameters() if parameter.requires_grad]
    decay = recipe.probe_decay / len(labels)
    steps = recipe.probe_epochs or recipe.epochs
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        torch.manual_seed(seed_of(recipe.seed, "probe"))  # whatever is dropped is the same in each step
        optimizer.zero_grad()
        weights = sum(parameter.square().sum() for parameter in parameters if parameter.ndim >= 2)
        loss = loss_of(model.forward_head(features).float(), labels) + decay / 2 * weights
        loss.backward()
        return loss

    model.head.train()
    optimizer.step(loss)
    model.head.eval()
