"""One of several processes that train together on CPUs.

`python -m tests.transfer.together DATA OUT OPTIONS`, where OPTIONS is JSON: the recipe's fields, and `fsdp` (divide the
model), `room` (images for which the last process has memory), `resume`, `stop` (the step at which the first process is
asked to end).
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from hybridvit.transfer.data import load_data
from hybridvit.transfer.errors import TrainingInterrupted
from hybridvit.transfer.progress import Progress
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.trainer import Trainer
from hybridvit.transfer.transforms import default_preprocess
from hybridvit.weights.store import save_pretrained
from tests.transfer.samples import tiny


def accelerator_for(fsdp: bool) -> Accelerator:
    accelerator = Accelerator(cpu=True)
    if fsdp:
        # accelerate keeps FSDP to GPUs, though torch has it for CPUs.
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=["BlockModule"]
        )
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def main(data: str, out: Path, options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    fsdp, resume = options.pop("fsdp", False), options.pop("resume", False)
    room, stop = options.pop("room", None), options.pop("stop", None)
    accelerator = accelerator_for(fsdp)
    run = Trainer(
        tiny(),
        load_data(data),
        Recipe(**{"epochs": 2, "batch_size": 16, "lr": 2e-3, "augment": "gentle", "ema_decay": 0.9} | options),
        default_preprocess((16, 16), 1),
        out,
        accelerator,
        keep=lambda best, position: save_pretrained(best, out / "best") and None,
        identity={},
        progress=Progress(shown=accelerator.is_main_process),
        workers=0,
    )
    steps = 0

    def before_a_step(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal steps
        if not module.training:
            return
        steps += 1
        if room and accelerator.process_index == accelerator.num_processes - 1 and len(inputs[0]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if stop == steps and accelerator.is_main_process:
            signal.raise_signal(signal.SIGTERM)

    run.model.register_forward_pre_hook(before_a_step)
    try:
        run.fit(resume=resume)
    except TrainingInterrupted as error:
        print(error)
    accelerator.end_training()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
