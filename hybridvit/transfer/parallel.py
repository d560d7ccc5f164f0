"""What several processes have to agree on, and models that are divided among them (FSDP2)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accelerate import Accelerator

    from ..encoder import Encoder

AGREE_EVERY = 8  # steps between two moments at which several processes may save or stop together


def is_divided(tensor: Tensor) -> bool:
    """Whether this process has a share of it only: a DTensor, whose module takes long to import."""
    return hasattr(tensor, "full_tensor")


def is_sharded(model: nn.Module) -> bool:
    """Whether the parameters are divided among processes."""
    return any(map(is_divided, model.parameters()))


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the shares of all processes; every process has to ask for it."""
    return tensor.full_tensor() if is_divided(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def all_whole(tensors: Mapping[str, Tensor], wanted: bool = True) -> dict[str, Tensor]:
    """The same of several: those that were divided come to the CPU one by one, unless this process only gives."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        full = whole(value)
        if wanted:
            found[name] = full.cpu() if full is not value else value
    return found


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A new tensor with the values of one, divided and laid out in memory as a parameter is."""
    if not is_divided(parameter):
        return torch.empty_like(parameter).copy_(value)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def kernel_layout(accelerator: Accelerator) -> torch.memory_format:
    """How kernels lie in memory: as the batches do, except under FSDP2, which divides contiguous parameters alone."""
    return torch.contiguous_format if _divides(accelerator) else torch.channels_last


def plain_copy(accelerator: Accelerator, model: Encoder) -> Encoder | None:
    """For the process that saves: a model on the CPU to put the shares together in, if `prepared` divides it."""
    return copy.deepcopy(model).cpu() if _divides(accelerator) and accelerator.is_main_process else None


def prepared(
    accelerator: Accelerator, model: Encoder, optimizer: torch.optim.Optimizer, average: AveragedModel | None
) -> nn.Module:
    """The model as it is called in training; with several processes it then adds up their gradients.

    Under FSDP2 all three are divided among the processes.
    """
    if not _divides(accelerator):
        return accelerator.prepare(model, optimizer)[0]
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    if average is not None:
        fsdp2_prepare_model(accelerator, average.module)
    return accelerator.prepare(model, optimizer)[0]


def _divides(accelerator: Accelerator) -> bool:
    return bool(getattr(accelerator, "is_fsdp2", False))


def whole_model(model: Encoder, plain: Encoder | None) -> Encoder:
    """A model, put together in `plain` if it is divided; every process has to ask for it, and one has a `plain`."""
    if not is_sharded(model):
        return model
    weights = all_whole(model.state_dict(), wanted=plain is not None)
    if plain is None:
        return model
    plain.load_state_dict(weights)
    return plain


def added_up(accelerator: Accelerator, *values: Tensor) -> list[float]:
    """The sum over all processes of each number."""
    return accelerator.reduce(torch.stack(values), reduction="sum").tolist()  # pyright: ignore[reportAttributeAccessIssue]


def agreed(accelerator: Accelerator, step: int, *wishes: bool) -> tuple[bool, ...]:
    """Which wishes any process has, the same answer to all.

    Several processes ask each other only every few steps, for it makes them wait.
    """
    if accelerator.num_processes == 1:
        return wishes
    if step % AGREE_EVERY:
        return (False,) * len(wishes)
    told = torch.tensor([float(wish) for wish in wishes], device=accelerator.device)
    return tuple(bool(each) for each in accelerator.reduce(told, reduction="sum").tolist())  # pyright: ignore[reportAttributeAccessIssue]
