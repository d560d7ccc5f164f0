"""Weights: lock, convert, optimize, push, pull, and a Hub of one's own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from .application import app, settings, tell, tell_json
from .options import CacheOption, JsonOption, LockOption, PickleOption
from .zoo import tell_record

hub_app = typer.Typer(no_args_is_help=True, help="A Hub of your own, on this machine.")
app.add_typer(hub_app, name="hub")


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
    as_json: JsonOption = False,
) -> None:
    """Lock names to the commits and bytes that they stand for now; loading with lock=FILE takes nothing else."""
    from ..weights.lock import check_lock
    from ..weights.lock import lock as run
    from ..weights.lock_file import LockError

    if check:
        verdicts = check_lock(file, cache_dir=cache_dir)
        said = {name: "as locked" if wrong is None else wrong or "not in the cache" for name, wrong in verdicts.items()}
        if as_json:
            tell_json({"file": str(file), "checked": said})
        for name, verdict in said.items() if not as_json else ():
            tell(f"{name}: {verdict}")
        bad = [name for name, wrong in verdicts.items() if wrong]
        if bad:
            raise LockError(f"{len(bad)} of {len(verdicts)} are not as {file} has them: {', '.join(bad)}")
        return
    if not names:
        raise ValueError("name at least one model, or check a lock file with --check")
    weights = run(names, file, model=model, cache_dir=cache_dir, allow_pickle=allow_pickle)
    if as_json:
        tell_json({"file": str(file), "locked": {name: asdict(locked) for name, locked in weights.items()}})
        return
    for name, locked in weights.items():
        at = f" at commit {locked.commit}" if locked.commit else ""
        tell(f"locked {name}: {locked.source}{at}, {len(locked.files)} files")
        for each, facts in sorted(locked.files.items()):
            tell(f"  {each} {facts.size:,} bytes, sha256 {facts.sha256}")


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
    as_json: JsonOption = False,
) -> None:
    """Write weights in another layout: from any that is read to any that the model's family has."""
    from ..weights.convert import convert as run

    read = run(source, target, model=model, to=to, cache_dir=cache_dir, allow_pickle=allow_pickle, lock=lock)
    if as_json:
        tell_json({"written": str(target), "read": read.to_dict()})
        return
    tell_record(read)
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
    as_json: JsonOption = False,
) -> None:
    """Fold norms, scales and parallel convolutions into the layers next to them, and save the model: for inference."""
    import torch

    from ..optimization import difference
    from ..optimization import optimize as run
    from ..weights.load import create_model, full_name
    from ..weights.store import save_pretrained

    name = full_name(model)
    if Path(name.removeprefix("local-dir:")).expanduser().resolve() == out.expanduser().resolve():
        raise ValueError(f"{out} has the model itself, which nothing brings back from the optimized one; name another")
    original = create_model(name, pretrained=True, cache_dir=cache_dir, allow_pickle=allow_pickle).eval()
    fast = run(original, dtype=getattr(torch, dtype) if dtype else None)
    off, saved = difference(original, fast), save_pretrained(fast, out)
    if as_json:
        tell_json({"saved": str(saved), "done": fast.optimizations, "difference": off})
        return
    for line in fast.optimizations:
        typer.echo(line)
    typer.echo(f"largest difference: {off:.1e} of the spread of outputs on random images")
    typer.echo(f"saved in {saved}")


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
    as_json: JsonOption = False,
) -> None:
    """Push a model to the Hub that HF_ENDPOINT names, by default huggingface.co."""
    from ..weights.load import create_model, full_name
    from ..weights.push import push_to_hub

    facts = {
        "licence": licence,
        "base_model": base_model,
        "datasets": dataset,
        "metrics": settings(metric or [], "--metric NAME=VALUE"),
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
    if as_json:
        tell_json({"pushed": url})
        return
    typer.echo(f"pushed: {url}")


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME[@REVISION]")],
    directory: Annotated[Path, typer.Argument(help="Where to; local-dir:DIRECTORY then loads it.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; by default the main branch.")] = None,
    cache_dir: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a model repository from the Hub into a directory."""
    from ..weights.push import pull as run

    record = run(repository, directory, revision=revision, cache_dir=cache_dir)
    if as_json:
        tell_json({"pulled": str(directory), "read": record.to_dict()})
        return
    tell_record(record)
    typer.echo(f"pulled into {directory}")


@hub_app.command()
def serve(
    root: Annotated[Path, typer.Option(help="Directory that keeps the repositories.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Tell where it is as one JSON object.")] = False,
) -> None:
    """Run a Hub on the loopback address, for demos, tests and places without internet. Ctrl-C stops it."""
    from ..hub.server import serve as run

    run(root, port, as_json)
