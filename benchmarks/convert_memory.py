"""Peak memory of converting weights between layouts, against their size.

    python -m benchmarks.convert_memory

For each case a weight file is written in one layout and converted to another in a process of its own. Measured is how
far that process's private memory grows beyond what it had after all imports, sampled every few milliseconds: pages of
the mapped source file, which the kernel drops when it needs them, are told apart. Linux only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

CASES = (
    ("vit_large_patch16_224", "timm", "hybridvit"),
    ("vit_large_patch16_224", "hybridvit", "timm"),
    ("vit_large_patch16_224", "hybridvit", "transformers"),
    ("vit_large_patch16_224", "transformers", "timm"),
    ("levit_384", "timm", "hybridvit"),
    ("levit_384", "hybridvit", "timm"),
    ("coatnet_2_rw_224", "timm", "hybridvit"),
)
MIB = 2**20


def _status(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, field
    return int(found[1]) / 1024


def _peak_growth(run: Callable[[], object]) -> float:
    """How far the private memory of this process grows while `run` runs, in MiB."""
    before, peak, done = _status("RssAnon"), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, _status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return peak - before


def _measure(source: str, target: str, architecture: str, to: str) -> None:
    import hybridvit as hv
    from hybridvit.registry import model_spec
    from hybridvit.weights.layouts import expected_tensors

    expected_tensors(model_spec(architecture))  # imports
    print(json.dumps(_peak_growth(lambda: hv.convert(source, target, model=architecture, to=to))))


def main() -> None:
    from safetensors.torch import save_file

    import hybridvit as hv
    from hybridvit.weights.store import tensors_in

    print("| model | from | to | file, MiB | largest tensor, MiB | peak of private memory, MiB |")
    print("|---|---|---|---|---|---|")
    for architecture, layout, to in CASES:
        with tempfile.TemporaryDirectory(prefix="hybridvit-convert-") as place:
            source, target = (str(Path(place) / f"{name}.safetensors") for name in ("source", "target"))
            tensors = tensors_in(hv.create_model(architecture), layout)
            save_file(tensors, source)
            size = sum(tensor.nbytes for tensor in tensors.values()) / MIB
            largest = max(tensor.nbytes for tensor in tensors.values()) / MIB
            del tensors
            done = subprocess.run(
                [sys.executable, "-m", __spec__.name, source, target, architecture, to], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            peak = json.loads(done.stdout.splitlines()[-1])
            print(f"| {architecture} | {layout} | {to} | {size:.0f} | {largest:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    _measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
