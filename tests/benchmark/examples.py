"""A result that no machine had to measure."""

from __future__ import annotations

from hybridvit.benchmark.records import Machine, Result, Settings, Side, Versions

OURS_MS, THEIRS_MS = (1.0, 2.0, 9.0), (6.0, 4.0, 9.0)


def example() -> Result:
    return Result(
        model="vit_tiny_patch16_224",
        batch=4,
        img_size=(224, 160),
        params=5_717_416,
        flops=2_507_366_400,
        settings=Settings(device="cuda:0", precision="bf16", compile=True, threads=3),
        sides=(
            Side.of("hybridvit", OURS_MS, None, batch=4, first_call_s=0.5),
            Side.of("timm", THEIRS_MS, OURS_MS, batch=4, first_call_s=0.25),
        ),
        difference=1e-6,
        machine=Machine(
            system="Linux",
            cpu="a CPU",
            cores=16,
            instruction_sets=("avx2", "fma"),
            memory_gib=64.0,
            gpu="a GPU",
            load_average=0.5,
        ),
        versions=Versions(python="3.11.7", torch="2.14.1", timm="1.0.31", hybridvit="0.1.0"),
        allocator={"MALLOC_TRIM_THRESHOLD_": "1"},
        commit="0123456789abcdef-dirty",
        date="2026-01-31T12:00:00+00:00",
        command="hybridvit benchmark vit_tiny_patch16_224",
    )
