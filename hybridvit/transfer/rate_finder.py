"""A learning rate from a short trial of many (arXiv 1506.01186)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from .loader import TrainBatches, seed_of
from .optimizers import parameter_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from .recipe import Recipe
    from .trainer import Trainer

LOWEST, HIGHEST = 1e-6, 1.0
_STEPS = 100
_SMOOTHING = 0.9
_DIVERGED = 4.0  # times the smallest loss
_FEWEST = 10  # steps before which no loss counts as diverged


@dataclass(frozen=True)
class RateCurve:
    """Smoothed losses at rising rates, and the rate at which the loss falls fastest."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_rate(trainer: Trainer, steps: int = _STEPS) -> RateCurve:
    """Train a copy of the trainer's model for a few steps while the rate rises from 1e-6 to 1.

    Ends early when the loss diverges. The trainer and its model stay as they are.
    """
    model = copy.deepcopy(trainer.model).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, trainer.recipe), lr=LOWEST, fused=True)
    rates, losses, average, best = [], [], 0.0, math.inf
    for step, (images, labels) in enumerate(_endless(trainer)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        torch.manual_seed(seed_of(trainer.recipe.seed, "rate", step))
        loss = trainer.criterion(model(images).float(), labels, images)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), trainer.recipe.grad_clip or math.inf)
        optimizer.step()
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss.item()
        smoothed = average / (1 - _SMOOTHING ** (step + 1))
        best = min(best, smoothed)
        if not math.isfinite(smoothed) or (step >= _FEWEST and smoothed > _DIVERGED * best):
            break
        rates.append(rate)
        losses.append(smoothed)
        if step == steps - 1:
            break
    return RateCurve(tuple(rates), tuple(losses), steepest(rates, losses, trainer.recipe.lr))


def use_found_rate(trainer: Trainer) -> Recipe:
    """The trainer's recipe with the suggested rate, that of the first process, which the trainer uses from now on."""
    from accelerate.utils import broadcast_object_list

    (rate,) = broadcast_object_list([find_rate(trainer).suggestion])
    trainer.progress.note(f"learning rate found: {rate:g}")
    trainer.recipe = trainer.recipe.replace(lr=rate)
    return trainer.recipe


def steepest(rates: list[float], losses: list[float], otherwise: float) -> float:
    """The rate of the steepest descent before the smallest loss, to two digits; `otherwise` if it never falls."""
    end = int(np.argmin(losses)) + 1 if losses else 0
    if end < 3:
        return otherwise
    slopes = np.gradient(np.asarray(losses[:end]), np.log(rates[:end]))
    return float(f"{rates[int(np.argmin(slopes))]:.1e}")


def _endless(trainer: Trainer) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches, for every process by itself."""
    batches, epoch = trainer.batches, 0
    if trainer.world > 1:
        data, recipe = trainer.data.train, trainer.recipe
        batches = TrainBatches(data, trainer.preprocess, recipe, trainer.device, workers=trainer.workers)
    while True:
        yield from batches.epoch(epoch)
        epoch += 1
