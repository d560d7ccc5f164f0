"""How long every model takes to build on the `meta` device, in seconds of processor time.

    python -m benchmarks.build

Each is built three times, its spec included; the fastest counts, so that first imports do not.
"""

from __future__ import annotations

import statistics
import time

import torch

from hybridvit.registry import index, model_spec

REPEATS, SHOWN = 3, 10


def build_seconds(name: str) -> float:
    """The fastest of several builds."""
    times: list[float] = []
    for _ in range(REPEATS):
        start = time.process_time()
        with torch.device("meta"):
            model_spec(name).build()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    seconds = {name: build_seconds(name) for name in index()}
    print(f"{len(seconds)} models: median {statistics.median(seconds.values()):.3f} s. The slowest:")
    for name in sorted(seconds, key=lambda name: -seconds[name])[:SHOWN]:
        print(f"{seconds[name]:.3f} s  {name}, {index()[name].params / 1e6:.0f} M parameters")


if __name__ == "__main__":
    main()
