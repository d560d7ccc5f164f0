"""Measure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from .application import app, tell_json


@app.command()
def benchmark(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="Names that `list` shows.")] = None,
    suite: Annotated[
        Literal["inference", "training", "memory", "export", "scaling", "cold_start"],
        typer.Option(help="What is measured."),
    ] = "inference",
    model_set: Annotated[
        Literal["targets", "cold_starts"] | None, typer.Option("--set", help="A set of models, by its name.")
    ] = None,
    batch: Annotated[
        list[str] | None, typer.Option(help="Images at a time, or `best`: as many as each side is fastest with.")
    ] = None,
    side: Annotated[list[str] | None, typer.Option(help="One that runs beside ours; repeatable; default: all.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "fp16", "amp-bf16", "amp-fp16"],
        typer.Option(help="Of weights and images; amp- is autocast over fp32 weights."),
    ] = "fp32",
    img_size: Annotated[
        list[int] | None, typer.Option(min=1, help="Square sizes; by default each model's own; repeatable.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a CPU; by default as many as torch takes.")] = None,
    compile_mode: Annotated[
        Literal["default", "reduce-overhead", "max-autotune"] | None,
        typer.Option("--compile", help="Adds the compiled sides, in this mode of torch.compile."),
    ] = None,
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="Eager sides replay a CUDA graph.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Of the scaling suite, unless torchrun starts them.")] = 1,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often the sides take turns.")] = None,
    round_seconds: Annotated[float, typer.Option(help="A round repeats a side for about this long.")] = 0.25,
    memory: Annotated[bool, typer.Option(help="Peak memory, each side in a process of its own.")] = True,
    out: Annotated[Path, typer.Option(help="JSON lines; results are added.")] = Path("benchmark.jsonl"),
    render: Annotated[
        Path | None, typer.Option(help="Print this results file as Markdown, and do nothing else.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="With --render: reported accuracy against measured speed, as this SVG instead.")
    ] = None,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(help="With --render: how many times faster the first side is than the second, model by model."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Tell what changed from the first results to the second.")
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="With --compare: a side to divide by, so that the machine's pace drops out.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results, or what changed, as JSON, one object a line.")
    ] = False,
) -> None:
    """Speed and memory of models beside other packages that have them, with equal weights and in turns."""
    from rich.console import Console

    from .. import benchmark as package
    from ..benchmark.run import SETS, SUITES
    from ..benchmark.tables import terminal_table

    if render is not None and as_json:
        for result in package.read_results(render):
            tell_json(asdict(result))
        return
    if render is not None and plot is not None:
        from ..benchmark.pareto import plot as draw

        draw(package.read_results(render), plot)
        typer.echo(f"written: {plot}")
        return
    if render is not None and pair is not None:
        from ..benchmark.pairs import pairs

        typer.echo(pairs(package.read_results(render), *pair), nl=False)
        return
    if render is not None:
        typer.echo(package.markdown(package.read_results(render)), nl=False)
        return
    if compare is not None:
        changes = package.compare(package.read_results(compare[0]), package.read_results(compare[1]), control=control)
        for change in changes if as_json else ():
            tell_json(asdict(change))
        if not as_json:
            typer.echo(package.report(changes))
        raise typer.Exit(any(change.verdict == "worse" for change in changes))
    names = [*(models or ()), *(SETS[model_set] if model_set else ())]
    if not names:
        raise ValueError("name at least one model, a set with --set NAME, or a results file with --render FILE")
    import torch

    settings = package.Settings(
        device=device,
        precision=precision,
        compile=compile_mode,
        cuda_graph=cuda_graph,
        threads=threads or torch.get_num_threads(),
        processes=processes,
        rounds=rounds or SUITES[suite].rounds,
        round_seconds=round_seconds,
    )
    sizes = [(size, size) for size in img_size] if img_size else None
    batches = [_batch(each) for each in batch] if batch else None
    measured = False
    console = Console(stderr=as_json)
    with console.status("measuring"):
        for result in package.benchmark(
            names, batches, settings, suite=suite, img_sizes=sizes, sides=side, weigh=memory
        ):
            package.append_result(out, result)
            if as_json:
                tell_json(asdict(result))
            else:
                console.print(terminal_table(result))
            measured = True
    if measured:
        console.print(f"results in {out}", highlight=False, soft_wrap=True)


def _batch(text: str) -> int | None:
    if text == "best":
        return None
    if not text.isdecimal():
        raise ValueError(f"--batch needs a number or best, got {text!r}")
    return int(text)
