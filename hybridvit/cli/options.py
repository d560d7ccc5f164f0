"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

DataOption = Annotated[
    str,
    typer.Option(
        help="Folder with one folder of images a class, with or without train/ val/ test/; a table of paths and labels "
        "(.csv, .tsv, .jsonl); hf:NAME, wds:SHARDS or idx:DIR."
    ),
]
ImageRootOption = Annotated[
    Path | None, typer.Option(help="Folder that the paths of a table are relative to; by default the table's.")
]
OnBadOption = Annotated[
    Literal["error", "skip"], typer.Option(help="Image files that cannot be decoded: refuse with a list, or leave out.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or mps; by default the best there is.")]
WorkersOption = Annotated[int | None, typer.Option(min=0, help="Processes that read images; by default one a core.")]
TtaOption = Annotated[
    Literal["none", "flip", "crops"], typer.Option(help="Average over views of each image; slower, often better.")
]
ModelOption = Annotated[
    str, typer.Option(help="A saved directory, a name with weights (arch.tag), or hf-hub:ORG/NAME[@REVISION].")
]


CacheOption = Annotated[Path | None, typer.Option(help="Of huggingface_hub; by default where HF_HOME says.")]
PickleOption = Annotated[bool, typer.Option("--allow-pickle", help="Read pickled weights too, tensors only.")]
LockOption = Annotated[Path | None, typer.Option(help="Lock file; anything but what it has is refused.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print what was done as one JSON object.")]
