"""Peak memory of one side, measured in a process of its own.

Run as `python -m hybridvit.benchmark.memory REQUEST`, it prints a number of MiB or "null". On CUDA that is the peak of
torch's allocations, weights included. On a CPU it is how far the peak of the process's resident memory grows from
after all imports: weights, activations, and what the libraries and the allocator keep beside them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from .records import BenchmarkError, Settings
from .sides import OURS, Case, build, runner

_STATUS = Path("/proc/self/status")


def peak_memory_mib(case: Case, side: str) -> float | None:
    """Peak memory in MiB of building the side and running it twice; None where it cannot be measured."""
    request = json.dumps({"side": side, "case": dataclasses.asdict(case)})
    done = subprocess.run(
        [sys.executable, "-m", __name__, request],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        raise BenchmarkError(
            f"{case.model} with batch {case.batch}: the process that measures the memory of {side} ended with status "
            f"{done.returncode}; leave it out with --no-memory. It said:\n{done.stderr.strip()[-2000:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(case: Case, side: str) -> float | None:
    import torch

    case.spec()  # imports what the model is made of, which is not its memory
    if side != OURS:
        import timm  # noqa: F401
    torch.set_num_threads(case.settings.threads)
    torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 8, 8))  # what the kernels' library allocates once
    device = torch.device(case.settings.device)
    if device.type == "cpu":
        with contextlib.suppress(OSError):  # a kernel without this keeps the peak of the imports, slightly too high
            Path("/proc/self/clear_refs").write_text("5")
        before = _peak_rss_mib()
        _run_twice(case, side)
        after = _peak_rss_mib()
        return None if before is None or after is None else round(after - before, 1)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        _run_twice(case, side)
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return None


def _run_twice(case: Case, side: str) -> None:
    run = runner(build(case, side), case, side)
    run()
    run()


def _peak_rss_mib() -> float | None:
    # Not getrusage on Linux: a new process starts with the peak of the one that started it.
    if _STATUS.exists():
        peak = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        return int(peak[1]) / 1024 if peak else None
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return None


if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    _case = _request["case"]
    _case = Case(**_case | {"img_size": tuple(_case["img_size"]), "settings": Settings(**_case["settings"])})
    print(json.dumps(_measure(_case, _request["side"])))
