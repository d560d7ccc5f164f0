"""The gradients of one batch, computed in as many parts as fit into memory."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import RecipeError, TrainingError
from .parallel import is_sharded

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator

    from .losses import Criterion
    from .recipe import Recipe

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# The second step of a run is the first with the optimizer's state in memory.
_TRIALS = 2


def autocast(device: torch.device, precision: str) -> Any:
    """The context in which a recipe's precision computes."""
    return torch.autocast(device.type, dtype=_HALF[precision]) if precision in _HALF else nullcontext()


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device computes slowly or not at all."""
    if precision == "fp16" and device.type != "cuda":
        raise RecipeError(f"precision fp16 needs a CUDA GPU, and this run is on {device.type}; take bf16 or fp32")


def check_parts(recipe: Recipe, images: int) -> None:
    """Refuse more parts than the images that a process has of each batch."""
    if recipe.accumulate > images:
        raise RecipeError(
            f"accumulate {recipe.accumulate} is more than the {images} images that a process has of each batch; lower "
            "it or raise batch_size"
        )


class Step:
    """Leaves the gradients of a batch on a model's parameters.

    The batch is divided into `parts`, whose gradients are summed: the same gradient from less memory, but for what sees
    a part at a time (batch norm) and for what layers draw at random. Where memory runs out, the parts are halved, the
    batch is computed anew, and so are all that follow.
    """

    def __init__(
        self, model: nn.Module, accelerator: Accelerator, recipe: Recipe, loss: Criterion, tell: Callable[[str], None]
    ) -> None:
        self.model, self.accelerator, self.precision = model, accelerator, recipe.precision
        self.loss, self.tell, self.device = loss, tell, accelerator.device
        self.parts = recipe.accumulate
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.trials = 0 if accelerator.num_processes == 1 else _TRIALS
        # What a forward pass changes, so that one that fails can be undone.
        self.statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.kept = [torch.empty_like(buffer) for buffer in self.statistics]

    def __call__(self, forward: nn.Module, images: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """(mean loss, logits (B, classes)) of this process's share of the batch; `seed` is of what layers draw."""
        if self.kept:
            _copy(self.kept, self.statistics)
        while self.trials and not is_sharded(self.model):
            fits = self._attempt(forward, images, targets, seed, everywhere=False) is not None
            self._undo()
            if self._all(fits):
                self.trials -= 1
                break
            self._divide(len(images))
        while (found := self._attempt(forward, images, targets, seed)) is None:
            if self.accelerator.num_processes > 1:
                raise TrainingError(
                    f"out of memory. Resume with more parts a batch (accumulate={2 * self.parts}), with "
                    "checkpointing=true, or in a lower precision, in a new output directory"
                )
            self._undo()
            self._divide(len(images))
        return found

    def _attempt(
        self, forward: nn.Module, images: Tensor, targets: Tensor, seed: int, everywhere: bool = True
    ) -> tuple[Tensor, Tensor] | None:
        """None if memory runs out. `everywhere`: processes add up their gradients with those of the last part."""
        torch.manual_seed(seed)
        try:
            return self._gradients(forward, images, targets, everywhere)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None  # not in the handler: its traceback holds the activations

    def _gradients(
        self, forward: nn.Module, images: Tensor, targets: Tensor, everywhere: bool
    ) -> tuple[Tensor, Tensor]:
        losses: list[Tensor] = []
        logits: list[Tensor] = []
        parts = list(zip(images.tensor_split(self.parts), targets.tensor_split(self.parts), strict=True))
        for number, (some, wanted) in enumerate(parts, start=1):
            together = everywhere and number == len(parts)
            with nullcontext() if together else self.accelerator.no_sync(forward):
                with autocast(self.device, self.precision):
                    found = forward(some)
                loss = self.loss(found.float(), wanted, some) * (len(some) / len(images))
                self.accelerator.backward(self.scaler.scale(loss))
            losses.append(loss.detach())
            logits.append(found.detach())
        return torch.stack(losses).sum(), torch.cat(logits)

    def _undo(self) -> None:
        for parameter in self.model.parameters():
            parameter.grad = None
        if self.kept:
            _copy(self.statistics, self.kept)
        gc.collect()
        torch.cuda.empty_cache()  # does nothing where CUDA was not used

    def _divide(self, count: int) -> None:
        if self.parts >= count:
            raise TrainingError(
                "out of memory with one image at a time: take checkpointing=true, a smaller image_size, a lower "
                "precision or a smaller model, in a new output directory"
            )
        self.parts = min(2 * self.parts, count)
        self.tell(f"out of memory: each batch is computed in {self.parts} parts from now on, which learns the same")

    def _all(self, fits: bool) -> bool:
        told = torch.tensor(float(fits), device=self.device)
        return self.accelerator.reduce(told, reduction="sum").item() == self.accelerator.num_processes  # pyright: ignore[reportAttributeAccessIssue]


def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    torch._foreach_copy_(targets, values)  # pyright: ignore[reportPrivateImportUsage]


def answers(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, classes) in float32 without gradients, in halves where memory runs out."""
    try:
        return model(images).float()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(images) == 1 or is_sharded(model):
            raise
    torch.cuda.empty_cache()
    return torch.cat([answers(model, half) for half in images.tensor_split(2)])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of a GPU, or of a CPU, where torch raises a plain RuntimeError."""
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in str(error) or should_reduce_batch_size(error))
