"""What a result was measured on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from .. import __version__
from .records import Machine, Versions

_CPU_INFO = Path("/proc/cpuinfo")
# Those that decide how fast a matrix product is.
_INSTRUCTION_SETS = re.compile(r"avx\w*|fma|f16c|amx\w*|sve\w*|asimd\w*|bf16|i8mm")
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
        gpu=torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        load_average=round(os.getloadavg()[0], 2),
    )


def versions() -> Versions:
    """Of Python and the packages that a result depends on."""
    try:
        timm = importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        timm = None
    return Versions(python=platform.python_version(), torch=torch.__version__, timm=timm, hybridvit=__version__)


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
