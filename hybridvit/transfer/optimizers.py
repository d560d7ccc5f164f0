"""Groups of parameters, rates over the steps, the average of the weights, and an optimizer's state as tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .parallel import like

if TYPE_CHECKING:
    from ..encoder import Encoder
    from .recipe import Recipe

SMALLEST_LAYER_SCALE = 1e-2  # smallest share of the rate that layer decay leaves to the layers near the input


def parameter_groups(model: Encoder, recipe: Recipe) -> list[dict[str, Any]]:
    """AdamW groups with a `scale` of the rate each: layer_decay to the power of the distance from the head.

    Only weights that multiply features decay: matrices and kernels, not norms, biases, prefix tokens or tables.
    """
    layers = model.layer_parameters()
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    seen: set[nn.Parameter] = set()
    for depth, (_, parameters) in enumerate(layers):
        scale = max(recipe.layer_decay ** (len(layers) - 1 - depth), SMALLEST_LAYER_SCALE)
        for name, parameter in parameters.items():
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            decays = parameter.ndim >= 2 and name.endswith("weight")
            empty = {"params": [], "scale": scale, "weight_decay": recipe.weight_decay if decays else 0.0}
            groups.setdefault((scale, decays), empty)["params"].append(parameter)
    return list(groups.values())


def rate_at(step: int, steps: int, warmup_steps: int) -> float:
    """Share of the peak rate at a step: linear warm-up, then half a cosine towards zero."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def average_of(model: Encoder, decay: float) -> AveragedModel:
    """Exponential moving average whose decay rises with the steps, (1 + n) / (10 + n), up to its final value."""

    def update(averages: Any, current: Any, updates: Any) -> None:
        # Not `updates`, a copy where the weights are: to read it would wait for the GPU at every step.
        n = int(average.n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, current, updates)

    average = AveragedModel(model, multi_avg_fn=update)
    return average


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of each parameter, in the order of the parameter groups, as `NUMBER.NAME`."""
    states = (optimizer.state[parameter] for group in optimizer.param_groups for parameter in group["params"])
    return {f"{number}.{name}": value for number, state in enumerate(states) for name, value in state.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, each tensor in the memory layout of its parameter.

    Fused AdamW walks the memory of a parameter and its state side by side, so their layouts have to agree.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        restored = like(value, parameter) if value.shape == parameter.shape else value.to(parameter.device, copy=True)
        optimizer.state[parameter][name] = restored.detach()
