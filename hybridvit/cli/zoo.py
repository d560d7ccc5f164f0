"""What models and weights there are, and what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .application import app, tell
from .options import CacheOption, LockOption, PickleOption

if TYPE_CHECKING:
    from ..resolved import Resolved


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

    from ..registry import group_of, groups, index, tags
    from ..weights.entries import entries
    from ..weights.info import list_models

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
    from ..columns import columns

    for title, lines in columns(header, {title: found for title, found in rows.items() if found}).items():
        typer.secho(title, bold=True)
        typer.echo("\n".join(lines) + "\n")
    typer.echo(f"{len(names)} {counted}")


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
    from ..weights.load import full_name
    from ..weights.resolve import is_place

    if is_place(full_name(name)) or lock or cache_dir or allow_pickle:
        _info_of_weights(name, as_json, cache_dir, allow_pickle, lock)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from ..weights.info import figures, model_info
    from ..weights.schema import reporters

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
    from ..weights.load import load_recorded

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
    tell(f"{origin.get('architecture') or 'a model of its own'}, licence {origin.get('licence', 'unknown')}")
    typer.echo(
        f"{facts['params'] / 1e6:.2f} M parameters, {model.spec.num_classes} classes"
        f"{'' if model.labels else ' without names'}, {model.spec.in_chans} channels, tables for "
        f"{_size(model.spec.img_size)}"
    )
    if model.preprocess:
        tell("preprocessing: " + ", ".join(f"{key} {value}" for key, value in facts["preprocess"].items()))
    tell_record(model.resolved)


def tell_record(record: Resolved) -> None:
    """What was loaded, byte for byte, and what was changed."""
    for line in record.lines(hashed=True):
        tell(line)


def _size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))
