"""Where `predict` writes: a table or JSON lines, image by image, and in place only when all of it is there."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import write_atomically
from .images import BadImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .predict import Prediction

    Results = Iterable[tuple[Path, list[Prediction] | BadImage]]

_COLUMNS = ("image", "label", "probability", "error")


def writer_for(path: Path) -> Callable[[Results], None]:
    """A function that writes results to a file. Raises ValueError for a name that ends neither in .csv nor .jsonl."""
    writers = {".csv": _write_table, ".jsonl": _write_lines}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise ValueError(f"{path}: predictions are written as .csv or .jsonl; give the file one of these endings")
    return lambda results: write_atomically(path, lambda temporary: write(temporary, results))


def as_json(path: Path, result: list[Prediction] | BadImage) -> dict[str, Any]:
    if isinstance(result, BadImage):
        return {"image": str(path), "error": result.reason}
    labels = [{"label": each.label, "probability": each.probability} for each in result]
    return {"image": str(path), "predictions": labels}


def _write_lines(path: Path, results: Results) -> None:
    with path.open("w", encoding="utf-8") as file:
        for image, result in results:
            file.write(json.dumps(as_json(image, result)) + "\n")


def _write_table(path: Path, results: Results) -> None:
    """A row for each label of each image, the most likely first; an image that cannot be read has an error instead."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS)
        for image, result in results:
            if isinstance(result, BadImage):
                table.writerow((image, "", "", result.reason))
            else:
                table.writerows((image, each.label, each.probability, "") for each in result)
