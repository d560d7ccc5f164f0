"""One side's cold start, in a process that ends with it: `python -P cold_process.py REQUEST` prints a JSON object.

It is run by its path and imports nothing of hybridvit but what its side does.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def _hybridvit(name: str, weights: str) -> Callable[[], Any]:
    from hybridvit import create_model

    return lambda: create_model(f"local-dir:{weights}")


def _timm(name: str, weights: str) -> Callable[[], Any]:
    import timm

    file = {"file": f"{weights}/model.safetensors"}
    return lambda: timm.create_model(name, pretrained=True, pretrained_cfg_overlay=file).eval()


def _transformers(name: str, weights: str) -> Callable[[], Any]:
    from transformers import AutoModelForImageClassification

    return lambda: AutoModelForImageClassification.from_pretrained(weights).eval()


def _torchvision(name: str, weights: str) -> Callable[[], Any]:
    import torch
    from torchvision.models import get_model

    def create() -> Any:
        model = get_model(name)
        model.load_state_dict(torch.load(f"{weights}/model.pth", map_location="cpu", weights_only=True))
        return model.eval()

    return create


# The fastest documented way of each package from weights on this disk to a model.
_PACKAGES = {
    "hybridvit": _hybridvit,
    "timm": _timm,
    "transformers": _transformers,
    "torchvision": _torchvision,
}


def _memory_mib() -> dict[str, float]:
    """The process's peak of resident memory, and what of it is private now, in MiB; empty where Linux does not tell."""
    if not _STATUS.exists():
        return {}
    found = dict(re.findall(r"(\w+):\s+(\d+) kB", _STATUS.read_text()))
    return {"peak": int(found["VmHWM"]) / 1024, "private": int(found["RssAnon"]) / 1024}


def _growth(stage: str, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {f"{name} memory after {stage}": after[name] - before[name] for name in before}


def measure(package: str, name: str, weights: str, shape: list[int], device: str) -> dict[str, Any]:
    """Times in s, memory in MiB beyond what the imports took, and the outputs of the first inference.

    Processor time is that of all threads: what a busy machine adds to the other times is not in it.
    """
    import torch

    start = time.perf_counter()
    create = _PACKAGES[package](name, weights)
    imported = time.perf_counter() - start
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with contextlib.suppress(OSError):  # else the peak is that of the imports, where that is higher
        Path("/proc/self/clear_refs").write_text("5")
    before = _memory_mib()
    start, processor = time.perf_counter(), time.process_time()
    model = create().to(device)
    created, processor_created, memory_created = time.perf_counter(), time.process_time(), _memory_mib()
    with torch.inference_mode():
        outputs = model(images.to(device))
        outputs = getattr(outputs, "logits", outputs).float().cpu()
    done, processor_done, memory_done = time.perf_counter(), time.process_time(), _memory_mib()
    return {
        "import beyond torch": imported,
        "create": created - start,
        "first inference": done - created,
        "create to first answer": done - start,
        "processor time of create": processor_created - processor,
        "processor time to first answer": processor_done - processor,
        **_growth("create", before, memory_created),
        **_growth("first answer", before, memory_done),
        "outputs": outputs.flatten().tolist(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
