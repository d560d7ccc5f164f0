"""Several runs that belong together: of several rates, and of several folds."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import write_text
from .directory import check_place
from .errors import RecipeError
from .results import FinetuneResult
from .run import finetune

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..encoder import Encoder

SEARCH_FILE = "search.json"


@dataclass(frozen=True)
class Search:
    """Runs by the names of their directories. alternatives: whether they have the same data, so that one is best."""

    runs: dict[str, FinetuneResult]
    directory: Path
    alternatives: bool

    @property
    def best(self) -> str | None:
        """The run that is best on the validation images."""
        return max(self.runs, key=lambda name: self.runs[name].val_accuracy) if self.alternatives else None

    @property
    def mean(self) -> float:
        """Of the accuracies: on the test images if there are any, else on the validation images."""
        return statistics.fmean(self._accuracies())

    @property
    def spread(self) -> float:
        """Their sample standard deviation."""
        return statistics.stdev(self._accuracies()) if len(self.runs) > 1 else 0.0

    def _accuracies(self) -> list[float]:
        return [result.accuracy for result in self.runs.values()]

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        runs = {
            name: {each: getattr(result, each) for each in ("accuracy", "val_accuracy", "best_epoch", "seconds")}
            for name, result in self.runs.items()
        }
        return {"runs": runs, "best": self.best, "mean": self.mean, "spread": self.spread}


def finetune_rates(
    model: str | Encoder, data: str | Path, out: str | Path, rates: Sequence[float], **options: Any
) -> Search:
    """`finetune` once for each peak rate, in OUT/lr-RATE; options are those of `finetune`.

    A table of all is in OUT/search.json. With resume=True, finished runs are not repeated.
    """
    if len(set(rates)) < len(rates):
        raise RecipeError(f"each rate once, got {', '.join(f'{rate:g}' for rate in rates)}")
    changes = {f"lr-{rate:g}": {"overrides": options.get("overrides", {}) | {"lr": rate}} for rate in rates}
    return _search(model, data, Path(out), changes, options, alternatives=True)


def finetune_folds(model: str | Encoder, data: str | Path, out: str | Path, folds: int, **options: Any) -> Search:
    """Cross-validation: `finetune` once for each fold, in OUT/fold-NUMBER; options are those of `finetune`.

    A table of all is in OUT/search.json. With resume=True, finished runs are not repeated.
    """
    changes = {f"fold-{number}": {"fold": (number, folds)} for number in range(1, folds + 1)}
    return _search(model, data, Path(out), changes, options, alternatives=False)


def finetune_as_asked(
    model: str | Encoder, data: str | Path, out: Path, *, rates: Sequence[float], folds: int | None, **options: Any
) -> FinetuneResult | Search:
    """One run, or several: of each rate, or of each fold."""
    if len(rates) > 1 and folds:
        raise RecipeError("several rates and folds exclude each other: find the rate first, then cross-validate it")
    if len(rates) > 1:
        return finetune_rates(model, data, out, rates, **options)
    if rates:
        options["overrides"] = options.get("overrides", {}) | {"lr": rates[0]}
    return finetune_folds(model, data, out, folds, **options) if folds else finetune(model, data, out, **options)


def _search(
    model: str | Encoder,
    data: str | Path,
    out: Path,
    changes: dict[str, dict[str, Any]],
    options: dict[str, Any],
    alternatives: bool,
) -> Search:
    check_place(out, data)
    runs = {name: finetune(model, data, out / name, **(options | change)) for name, change in changes.items()}
    found = Search(runs, out, alternatives)
    write_text(out / SEARCH_FILE, json.dumps(found.to_dict(), indent=1) + "\n")
    if options.get("progress", True):
        _show(found)
    return found


def _show(found: Search) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "val", "accuracy", "best epoch", "seconds")
    for name, result in found.runs.items():
        figures = (
            f"{result.val_accuracy:.4f}",
            f"{result.accuracy:.4f}",
            str(result.best_epoch),
            f"{result.seconds:.0f}",
        )
        table.add_row(f"{name} *" if name == found.best else name, *figures)
    console = Console(stderr=True)
    console.print(table)
    figures = f"mean accuracy {found.mean:.4f}, standard deviation {found.spread:.4f}"
    console.print(
        f"{f'best on the validation images: {found.best}' if found.best else figures}. "
        f"Runs and {SEARCH_FILE} in {found.directory}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
