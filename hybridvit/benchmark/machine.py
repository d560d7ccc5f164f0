"""What a result was measured on and with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from .records import Gpu, Machine, Versions

_CPU_INFO = Path("/proc/cpuinfo")
# Those that decide how fast a matrix product is.
_INSTRUCTION_SETS = re.compile(r"avx\w*|fma|f16c|amx\w*|sve\w*|asimd\w*|bf16|i8mm")
_SMI = ("driver_version", "clocks.sm", "clocks.max.sm", "power.draw", "power.limit")
_ALLOCATOR_VARIABLES = re.compile(r"MALLOC_\w+|GLIBC_TUNABLES|LD_PRELOAD|PYTORCH_\w*ALLOC_CONF")


def machine(device: str) -> Machine:
    """This computer; its GPU if `device` is one."""
    info = _CPU_INFO.read_text() if _CPU_INFO.exists() else ""
    name = re.search(r"model name\s*: (.+)", info)
    flags = re.search(r"(?:flags|Features)\s*: (.+)", info)
    found = {flag for flag in flags[1].split() if _INSTRUCTION_SETS.fullmatch(flag)} if flags else set()
    return Machine(
        system=platform.platform(),
        cpu=name[1] if name else platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        instruction_sets=tuple(sorted(found)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpu=_gpu(device) if device.startswith("cuda") else None,
        load_average=round(os.getloadavg()[0], 2),
    )


def _gpu(device: str) -> Gpu:
    properties = torch.cuda.get_device_properties(device)
    told = _told_by_driver(torch.device(device).index or 0)
    return Gpu(
        name=torch.cuda.get_device_name(device),
        memory_gib=round(properties.total_memory / 2**30, 1),
        count=torch.cuda.device_count(),
        driver=told.get("driver_version"),
        clock_mhz=_number(told.get("clocks.sm"), int),
        max_clock_mhz=_number(told.get("clocks.max.sm"), int),
        power_w=_number(told.get("power.draw"), float),
        power_limit_w=_number(told.get("power.limit"), float),
    )


def _told_by_driver(index: int) -> dict[str, str]:
    """What `nvidia-smi`, which comes with the driver, says of a GPU; nothing where there is none."""
    command = ["nvidia-smi", f"--id={_smi_id(index)}", f"--query-gpu={','.join(_SMI)}", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return dict(zip(_SMI, done.stdout.strip().split(", "), strict=False))
    return {}


def _smi_id(index: int) -> str:
    # CUDA_VISIBLE_DEVICES renumbers the GPUs for torch alone.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return visible[index] if index < len(visible) and visible[index] else str(index)


def _number(text: str | None, kind: Callable[[float], Any]) -> Any:
    """None for what the driver calls "[N/A]" or does not know."""
    try:
        return kind(float(text or ""))
    except ValueError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> Versions:
    """Of Python and the packages that a result depends on."""
    return Versions(
        python=platform.python_version(),
        torch=torch.__version__,
        timm=_version("timm"),
        transformers=_version("transformers"),
        torchvision=_version("torchvision"),
        hybridvit=__version__,
    )


def allocator() -> dict[str, str]:
    """Environment variables that steer the allocators of glibc and of torch."""
    return {name: value for name, value in sorted(os.environ.items()) if _ALLOCATOR_VARIABLES.fullmatch(name)}


def commit() -> str | None:
    """The commit of the checkout that hybridvit runs from, "-dirty" if the package differs; None if it is installed."""
    package = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(package), *arguments], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    # A package installed somewhere inside another project's checkout is not of its commits.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return f"{git('rev-parse', 'HEAD')}{'-dirty' if git('status', '--porcelain', '--', '.') else ''}"
