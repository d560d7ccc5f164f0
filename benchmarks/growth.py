"""Memory and time of one image against its number of tokens: eager inference in single precision.

    python -m benchmarks.growth families    one model of every family at 1024 x 1024
    python -m benchmarks.growth curves      some of each kind at 224 to 1024 pixels a side
    python -m benchmarks.growth plots       draws the curves for the documentation

Each measurement has a process of its own. What is in the file of results already is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Sequence
from pathlib import Path

from hybridvit.benchmark import Result, Settings, append_result, read_results
from hybridvit.benchmark.cases import Case
from hybridvit.benchmark.growth import Point, Quantity, beyond_weights, curves, plot, slope, weights_mib
from hybridvit.benchmark.memory import memory
from hybridvit.benchmark.run import SIZES
from hybridvit.benchmark.tables import circumstances
from hybridvit.families import family_names
from hybridvit.registry import index, model_names

ROOT = Path(__file__).parent.parent
FAMILIES, CURVES = (ROOT / "benchmarks" / "results" / f"growth-{name}.jsonl" for name in ("memory", "curves"))
LARGEST = (1024, 1024)
# What an image of that size takes beyond the weights, at most, in every family.
LIMIT_MIB = 2048

# Where the smallest model is a miniature, is for tiny images, or has nothing of what the family is about.
INSTEAD = {
    "cct": "cct_7_7x2_224",
    "coatnet_rw": "coatnet_nano_rw_224",
    "lambda_resnet": "lambda_resnet26rpt_256",
    "lite_hybrid": "vit_tiny_lite0_s16_224",
    "maxvit": "maxvit_nano_rw_256",
    "mobilenetv4": "mobilenetv4_hybrid_medium",
    "vit": "vit_tiny_patch16_224",
    "vit_gap": "vit_little_patch16_reg4_gap_256",
    "xcit": "xcit_nano_12_p16_224",
}
# Global attention, plain, behind a convolutional stem, with tables of all pairs, and over pooled keys; windows; windows
# and grids; attention that is linear; attention between channels.
SELECTION = (
    "vit_tiny_patch16_224",
    "vitc_1gf",
    "coatnet_nano_rw_224",
    "levit_128s",
    "pvt_v2_b0",
    "swin_tiny_patch4_window7_224",
    "maxvit_nano_rw_256",
    "efficientvit_b0",
    "xcit_nano_12_p16_224",
)


def smallest(family: str) -> str:
    """The model that stands for its family."""
    return INSTEAD.get(family) or min(model_names(family=family), key=lambda name: index()[name].params)


def measure(
    models: Sequence[str], sizes: Sequence[tuple[int, int]], settings: Settings, out: Path, calls: int = 3
) -> None:
    """Adds the results to the file, without those that it has."""
    have = {(result.model, result.img_size) for result in read_results(out)} if out.exists() else set()
    for model in models:
        for size in sizes:
            if (model, size) not in have:
                case = Case(model=model, batch=1, img_size=size, settings=settings)
                result = memory(case, [], ["inference"], calls)
                append_result(out, result)
                print(
                    model, size[0], *(f"{n} {f.spread.median}" for n, f in result.sides[0].figures.items()), flush=True
                )


def needs(results: Sequence[Result]) -> str:
    """A Markdown table of what each model takes beyond its weights, the hungriest first."""
    header = ("family", "model", "tokens", "weights, MiB", "beyond the weights, MiB")
    rows = [(beyond_weights(result) or math.nan, result) for result in results]
    cells = [
        (
            index()[result.model or ""].family,
            result.model or "",
            f"{result.sides[0].figures['tokens'].spread.median:.0f}",
            f"{weights_mib(result):.0f}",
            f"{needed:.0f}",
        )
        for needed, result in sorted(rows, key=lambda row: -row[0])
    ]
    count = f"{len({family for family, *_ in cells})} of {len(family_names())} families are measured."
    return f"{_circumstances(results)} {count}\n\n{_markdown(header, cells)}"


def slopes(results: Sequence[Result]) -> str:
    """A Markdown table of the powers of the number of tokens that memory and time grow with, and of the last sizes."""
    header = ("model", "memory", "time", "MiB at 512, 768, 1024", "s at 512, 768, 1024")
    memories, times = curves(results, "memory"), curves(results, "time")
    cells = [
        (
            model,
            f"{slope(memories[model]):.2f}",
            f"{slope(times[model]):.2f}",
            _last(memories[model], 0),
            _last(times[model], 2),
        )
        for model in sorted(memories, key=lambda model: -slope(memories[model]))
    ]
    return f"{_circumstances(results)}\n\n{_markdown(header, cells)}"


def _circumstances(results: Sequence[Result]) -> str:
    """Those of the first, and all commits that the others were measured at."""
    first, *others = dict.fromkeys((result.commit or "no commit")[:12] for result in results)
    return circumstances(results[0]) + (f" Some at {', '.join(others)} instead of {first}." if others else "")


def _last(points: Sequence[Point], digits: int) -> str:
    return ", ".join(f"{point.value:.{digits}f}" for point in points[-3:])


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ("---", *("---:" if i else "---" for i in range(len(header) - 1)))
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("what", choices=("families", "curves", "plots"))
    parser.add_argument("models", nargs="*", metavar="MODEL", help="in place of all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="processes of each model and size")
    parser.add_argument("--calls", type=int, default=3, help="of each process, of which the fastest counts")
    given = parser.parse_args()
    measured = functools.partial(measure, settings=Settings(threads=given.threads, rounds=given.rounds))
    if given.what == "families":
        measured(given.models or [smallest(family) for family in family_names()], [LARGEST], out=FAMILIES, calls=0)
    elif given.what == "curves":
        measured(given.models or SELECTION, SIZES, out=CURVES, calls=given.calls)
    else:
        quantities: tuple[Quantity, ...] = ("memory", "time")
        for quantity in quantities:
            plot(read_results(CURVES), ROOT / "docs" / f"growth-{quantity}.svg", quantity)


if __name__ == "__main__":
    main()
