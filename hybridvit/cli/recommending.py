"""Choose a model before training one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .application import app, tell, tell_json
from .options import DataOption, DeviceOption, ImageRootOption, JsonOption, OnBadOption, WorkersOption


@app.command()
def recommend(
    data: DataOption,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_PATTERN",
            help="arch.tag, hf-hub:ORG/NAME, local-dir:PATH, or a quoted pattern such as 'levit*'; repeatable.",
            show_default="a short list of the zoo",
        ),
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Milliseconds that one image may take here.")] = None,
    max_params: Annotated[
        float | None,
        typer.Option(help="Millions of parameters that a model may have.", show_default="30 for the short list"),
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Models of the short list, or of a pattern, at most.")] = 10,
    images: Annotated[int, typer.Option(min=2, help="About how many images to compare on.")] = 1_000,
    img_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the square images; by default each model's own.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for table, picture and features.", show_default="runs/DATA-recommendation"),
    ] = None,
    on_bad: OnBadOption = "error",
    image_root: ImageRootOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank models for your images: by a quick look at their features, and by their latency on this machine."""
    from rich.console import Console

    from ..recommendation.run import PICTURE_FILE
    from ..recommendation.run import recommend as run
    from ..recommendation.table import heading, not_judged, terminal_table
    from ..transfer.directory import default_directory

    found = run(
        data,
        out or default_directory(data, "recommendation", resume=True),
        models=models or (),
        latency_ms=latency_ms,
        max_params=max_params,
        candidates=candidates,
        images=images,
        img_size=img_size,
        on_bad=on_bad,
        image_root=image_root,
        device=device,
        workers=workers,
    )
    if as_json:
        tell_json(found.to_dict())
        return
    assert found.directory is not None
    tell(heading(found))
    Console(highlight=False).print(terminal_table(found))
    for line in not_judged(found):
        tell(f"not judged: {line}")
    for line in found.words():
        tell(line)
    tell(f"Picture: {found.directory / PICTURE_FILE}")
    tell(f"Next:\n{found.command}")
