"""A result that no machine had to measure."""

from __future__ import annotations

from hybridvit.benchmark.records import Figure, Gpu, Machine, Peaks, Result, Settings, Side, Versions

OURS = Figure.of("s", (0.001, 0.002, 0.009))
THEIRS = Figure.of("s", (0.006, 0.004, 0.009), OURS)


def example() -> Result:
    return Result(
        suite="inference",
        model="vit_tiny_patch16_224",
        batch=4,
        img_size=(224, 160),
        params=5_717_416,
        flops=2_507_366_400,
        settings=Settings(device="cuda:0", precision="bf16", compile="default", threads=3),
        sides=(
            Side(name="hybridvit", settings={}, figures={"latency": OURS, "first call": Figure.of("s", [0.5])}),
            Side(name="timm", settings={"layout": "channels_last"}, figures={"latency": THEIRS}),
            Side(name="torchvision", settings={}, figures={}, failed="out of memory"),
        ),
        difference=1e-6,
        peaks=Peaks(matrix_gflops=800.25, copy_gbs=99.5),
        machine=Machine(
            system="Linux",
            cpu="a CPU",
            cores=16,
            instruction_sets=("avx2", "fma"),
            memory_gib=64.0,
            gpu=Gpu(
                name="a GPU",
                memory_gib=80.0,
                count=2,
                driver="570.1",
                clock_mhz=1980,
                max_clock_mhz=1980,
                power_w=None,
                power_limit_w=700.0,
            ),
            load_average=0.5,
        ),
        versions=Versions(
            python="3.11.7", torch="2.14.1", timm="1.0.31", transformers=None, torchvision=None, hybridvit="0.1.0"
        ),
        allocator={"MALLOC_TRIM_THRESHOLD_": "1"},
        commit="0123456789abcdef-dirty",
        date="2026-01-31T12:00:00+00:00",
        command="hybridvit benchmark vit_tiny_patch16_224",
    )
