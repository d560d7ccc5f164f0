"""Where to run."""

from __future__ import annotations

import torch


def torch_device(name: str | None) -> torch.device:
    """The device of that name, by default the best there is. Raises ValueError for one that torch does not find."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"no device {name!r}: use cpu, cuda, cuda:N or mps") from None
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= available.get(device.type, 0):
        raise ValueError(f"torch {torch.__version__} finds no device {name!r} here; use cpu")
    return device
