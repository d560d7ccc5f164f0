"""The suites by name, and a run of one over models, batches and sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..registry import model_spec
from .cases import Case, check
from .cold_start import cold_start
from .export import FORMS, export
from .memory import memory
from .records import BenchmarkError, Result, Settings, Suite
from .scaling import NAMES, scaling
from .sides import WAYS
from .speed import inference, training

# The models that the project holds itself to: one of each kind of hybrid, and a plain ViT.
TARGETS = (
    "vit_small_patch16_224",
    "vit_small_r26_s32_224",
    "levit_256",
    "coatnet_0_rw_224",
    "maxvit_tiny_tf_224",
    "convit_small",
    "mobilevit_s",
    "efficientformerv2_s1",
    "fastvit_sa12",
    "tiny_vit_11m_224",
    "caformer_s18",
    "efficientvit_b1",
    "nextvit_small",
    "cvt_13",
)
# Those whose cold start it holds itself to: large files, and many parts.
COLD_STARTS = ("vit_base_patch16_224", "vit_large_patch16_224", "coatnet_2_rw_224", "maxvit_base_tf_224")
SETS: Mapping[str, tuple[str, ...]] = {"targets": TARGETS, "cold_starts": COLD_STARTS}
SIZES = tuple((side, side) for side in (224, 384, 512, 768, 1024))


@dataclass(frozen=True)
class Plan:
    """How a suite measures a case, given the sides and whether to weigh them, and what it takes by default.

    A process that only helps another to measure has no result.

    `sizes` None is the one that each model is built for. `sides` are the names that it knows.
    """

    measure: Callable[[Case, Collection[str] | None, bool], Result | None]
    batches: tuple[int | None, ...]
    rounds: int
    sizes: tuple[tuple[int, int], ...] | None = None
    sides: Collection[str] = tuple(way.name for way in WAYS)


SUITES: Mapping[Suite, Plan] = {
    "inference": Plan(inference, (1, None), rounds=20),
    "training": Plan(training, (8,), rounds=10),
    "export": Plan(lambda case, sides, _: export(case, sides), (1,), rounds=20, sides=FORMS),
    "scaling": Plan(lambda case, sides, _: scaling(case, sides), (8,), rounds=10, sides=NAMES),
    "memory": Plan(lambda case, sides, _: memory(case, sides), (1,), rounds=1, sizes=SIZES),
    "cold_start": Plan(lambda case, sides, _: cold_start(case, sides), (1,), rounds=7),
}


def benchmark(
    models: Sequence[str],
    batches: Sequence[int | None] | None = None,
    settings: Settings | None = None,
    *,
    suite: Suite = "inference",
    img_sizes: Sequence[tuple[int, int]] | None = None,
    sides: Collection[str] | None = None,
    weigh: bool = True,
) -> Iterator[Result]:
    """Measures each model at each size and batch and yields a result as soon as it is there.

    A batch None is the one with which each side is fastest. `img_sizes` are (height, width) in pixels, by default the
    one that each model is built for; of the memory suite, squares of 224 to 1024. `sides` are the names of those that
    run beside ours, by default all. `weigh` measures peaks of memory as well, each side in a process of its own.

    Raises UnknownNameError for a model, BenchmarkError for settings that cannot be run here.
    """
    if suite not in SUITES:
        raise BenchmarkError(f"no suite {suite!r}; suites: {', '.join(SUITES)}")
    plan = SUITES[suite]
    for side in sides or ():
        if side not in plan.sides:
            raise BenchmarkError(f"no side {side!r} in the {suite} suite; sides: {', '.join(plan.sides)}")
    settings = settings or Settings(threads=torch.get_num_threads(), rounds=plan.rounds)
    cases = [
        Case(model=model, batch=batch, img_size=size, settings=settings)
        for model in models
        for size in img_sizes or plan.sizes or [model_spec(model).img_size]
        for batch in (plan.batches if batches is None else batches)
    ]
    for case in cases:
        check(case)
    for case in cases:
        result = plan.measure(case, sides, weigh)
        if result is not None:
            yield result
