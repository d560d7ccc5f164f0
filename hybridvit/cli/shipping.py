"""Take a model elsewhere: export it, or serve it as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .application import app, tell_json
from .options import DeviceOption, JsonOption


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="A saved directory, a name with weights (arch.tag), or hf-hub:ORG/NAME[@REVISION].")
    ],
    out: Annotated[Path, typer.Option(help="A directory, or a file that ends in .onnx or .pt2.")],
    format: Annotated[
        Literal["onnx", "torch", "aoti"],
        typer.Option(help="ONNX, a program of torch.export, or a package that AOTInductor compiles for this machine."),
    ] = "onnx",
    img_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the square images; by default that of the preprocessing.")
    ] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Take images of any height and width.")] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model as one file that runs without this package, for any number of images at a time.

    What is written has been compared with the model; its preprocessing and labels lie beside it as JSON.
    """
    from ..transfer.export import export as run

    written = run(model, out, format=format, img_size=img_size, dynamic=dynamic, device=device)
    if as_json:
        tell_json({"written": str(written.path), "facts": str(written.facts), "difference": written.difference})
        return
    typer.echo(f"written: {written.path}, {written.path.stat().st_size / 1e6:,.1f} MB")
    typer.echo(f"preprocessing and labels: {written.facts}")
    typer.echo(f"largest difference from the model: {written.difference:.1e} of the spread of outputs")


@app.command()
def serve(
    model: Annotated[
        str, typer.Argument(help="A saved directory, a name with weights (arch.tag), or hf-hub:ORG/NAME[@REVISION].")
    ],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the first free one from 7860 on.")
    ] = None,
    topk: Annotated[int, typer.Option(min=1, help="Labels an image.")] = 5,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell where it is as one JSON object.")] = False,
) -> None:
    """A page on this machine alone: drop an image, see its labels and where the model looked. Ctrl-C stops it."""
    from ..transfer.serve import serve as run

    def started(address: str) -> None:
        if as_json:
            tell_json({"address": address})
        else:
            typer.echo(f"serving at {address}; Ctrl-C stops it")

    run(model, port=port, topk=topk, device=device, started=started)
