"""What `recommend` gives, as data and in words."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ranking import Ranking, Row


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Candidates and what was found of them, on some data and this machine.

    Attributes:
        data: as it was named.
        figure: what scores are, "accuracy" or "mAP", in 0..1.
        majority: the figure of always naming the commonest class.
        images: images that candidates were compared on, of `total` ones.
        held_out: which of them scores are of, in words.
        limit: seconds an image may take; None without a limit.
        where: the device that latencies were measured on.
        how: how the candidates were chosen.
        notes: what was found in the data.
        command: what fine-tunes the recommended model on the data.
        directory: where table, picture and features are; None if nothing was written.
    """

    data: str
    classes: tuple[str, ...]
    figure: str
    majority: float
    images: int
    total: int
    held_out: str
    limit: float | None
    where: str
    how: str
    ranking: Ranking
    notes: tuple[str, ...]
    command: str
    directory: Path | None

    @property
    def recommended(self) -> Row:
        """The fastest within one standard error of the best."""
        return self.ranking.fastest

    def words(self) -> list[str]:
        """The recommendation, a sentence or two a line; the command is not among them."""
        best, fastest, smallest = self.ranking.best, self.ranking.fastest, self.ranking.smallest
        within = f" within {1000 * self.limit:g} ms" if self.limit is not None else ""
        lines = [f"Best{within}: {_described(best, self.figure)}."]
        if len(self.ranking.tied) > 1:
            more = len(self.ranking.tied) - 1
            lines.append(
                f"{more} more {'is' if more == 1 else 'are'} within one standard error of it: these images cannot tell "
                "them apart."
            )
        if fastest is not best:
            lines.append(f"The fastest of these: {_described(fastest, self.figure)}.")
        if smallest not in (best, fastest):
            lines.append(f"The smallest of these: {_described(smallest, self.figure)}.")
        if best.linear.mean <= self.majority:
            lines.append(
                f"But always naming the commonest class reaches {self.majority:.1%}: these features tell the classes "
                "apart no better. Look for wrong labels, or fine-tune with method=full before you judge."
            )
        if self.recommended.non_commercial:
            lines.append(f"Its licence, {self.recommended.licence}, forbids commercial use.")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "data": self.data,
            "classes": list(self.classes),
            "images": self.images,
            "images_in_all": self.total,
            "held_out": self.held_out,
            "figure": self.figure,
            "majority": self.majority,
            "latency_limit_ms": None if self.limit is None else 1000 * self.limit,
            "device": self.where,
            "candidates": self.how,
            "models": self.ranking.to_dict(),
            "best": self.ranking.best.name,
            "recommended": self.recommended.name,
            "smallest": self.ranking.smallest.name,
            "command": self.command,
            "notes": list(self.notes),
            "directory": None if self.directory is None else str(self.directory),
        }


def milliseconds(seconds: float) -> str:
    """To two or three digits."""
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"


def finetune_command(model: str, data: str, **options: object) -> str:
    """The command line that fine-tunes a model; options that are None are left out."""
    words = ["hybridvit", "finetune", "--model", model, "--data", data]
    for option, value in options.items():
        if value is not None:
            words += [f"--{option.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _described(row: Row, figure: str) -> str:
    score, size = row.linear, f"{row.params / 1e6:.1f} M parameters, " if row.params else ""
    return f"{row.name} ({figure} {score.mean:.1%} ± {score.standard_error:.1%}, {size}{milliseconds(row.seconds)})"
