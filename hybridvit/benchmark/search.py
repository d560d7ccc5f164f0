"""How many images at a time: growing while it pays, halving where memory ends."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

LEAST_GAIN = 0.03


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a run failed for lack of memory: on a CPU torch raises a plain RuntimeError that names its allocator."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(name in str(error) for name in ("DefaultCPUAllocator", "MPS backend out of memory"))
    )


def best_batch(
    rate: Callable[[int], float], first: int = 1, most: int = 65536, room: Callable[[], bool] = lambda: True
) -> int:
    """The batch with the highest rate in images/s, up to where growing stops paying or memory ends.

    `rate` measures a batch; it may run out of memory. The batch doubles until twice in a row it brings less than
    `LEAST_GAIN` over the best so far, or until there is no `room` for twice of what there was. If not even `first`
    fits, it is halved until it does; if one image does not fit, the error of that is raised.
    """
    rates: dict[int, float] = {}
    batch, weak = first, 0
    while batch <= most and weak < 2:
        measured = _rate_or_none(rate, batch)
        if measured is not None:
            weak = 0 if measured > (1 + LEAST_GAIN) * max(rates.values(), default=0) else weak + 1
            rates[batch] = measured
            batch *= 2
            if not room():
                break
        elif rates or batch == 1:
            break
        else:
            batch = most = batch // 2
    if not rates:
        rate(1)  # raises what no smaller batch can cure
    best = max(rates.values())
    return min(batch for batch, each in rates.items() if each * (1 + LEAST_GAIN) >= best)


def _rate_or_none(rate: Callable[[int], float], batch: int) -> float | None:
    """None if it does not fit. What the failed run held is freed once its error, which holds its frames, is gone."""
    try:
        return rate(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    free_memory()
    return None


def free_memory() -> None:
    """Gives back what nothing holds any more, also to the device."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA was not used
