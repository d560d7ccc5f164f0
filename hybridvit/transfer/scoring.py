"""What a run's model answers, asked on all of its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .parallel import is_sharded
from .step import answers, autocast

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..encoder import Encoder
    from .loader import EvalBatches


def all_logits(model: Encoder, batches: EvalBatches, count: int, accelerator: Accelerator, precision: str) -> Tensor:
    """(count, classes) logits of all images in their order, of which each process has its share in `batches`."""
    was_training = model.training
    model.eval()
    # What FSDP2 gathers in inference mode it cannot train with.
    with torch.no_grad() if is_sharded(model) else torch.inference_mode(), autocast(accelerator.device, precision):
        logits = torch.cat([answers(model, pixels) for pixels in batches])
    model.train(was_training)
    gathered = accelerator.gather(logits)
    assert isinstance(gathered, Tensor)
    # Rank r computed images r, r + world, ...; gathering puts the ranks one after another.
    return gathered.unflatten(0, (accelerator.num_processes, -1)).transpose(0, 1).flatten(0, 1)[:count]
