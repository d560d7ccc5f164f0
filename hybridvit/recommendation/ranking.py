"""What was found of each candidate, and which of them to take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..benchmark.pareto import unbeaten
from ..weights.entries import is_non_commercial
from .proxy import Proxy, Score

Status = Literal["judged", "too slow", "too large", "failed"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A candidate.

    Attributes:
        status: "judged", or why not; `reason` then says it in a line.
        params: None where nobody can tell, as the weights cannot be had.
        img_size: (height, width) in pixels.
        licence: of the weights; "unknown" if nobody states one.
        latency: seconds of one image; None if it was not measured.
        proxy: what its features reach; None unless it was judged.
    """

    name: str
    status: Status
    reason: str | None = None
    params: int | None = None
    img_size: tuple[int, int] | None = None
    licence: str = "unknown"
    latency: float | None = None
    proxy: Proxy | None = None

    @property
    def linear(self) -> Score:
        """What rows are ranked by: a classifier on these features is what fine-tuning begins with."""
        assert self.proxy is not None
        return self.proxy.linear

    @property
    def seconds(self) -> float:
        assert self.latency is not None
        return self.latency

    @property
    def non_commercial(self) -> bool:
        return is_non_commercial(self.licence)


@dataclass(frozen=True)
class Ranking:
    """Rows, those that were judged first and the best of them first.

    Attributes:
        best: the highest figure of the linear probe; of equals the fastest.
        tied: within one standard error of the best, from the fastest; with the best itself.
        front: what no other beats in both figure and latency, from the fastest.
    """

    rows: tuple[Row, ...]
    best: Row
    tied: tuple[Row, ...]
    front: tuple[Row, ...]

    @property
    def judged(self) -> tuple[Row, ...]:
        """The best first."""
        return tuple(row for row in self.rows if row.proxy is not None)

    @property
    def fastest(self) -> Row:
        """Of the tied."""
        return self.tied[0]

    @property
    def smallest(self) -> Row:
        """Of the tied, by parameters."""
        return min(self.tied, key=lambda row: (row.params or 0, row.seconds))

    def to_dict(self) -> list[dict[str, Any]]:
        """JSON data, an object a row."""
        return [self._facts(row) for row in self.rows]

    def _facts(self, row: Row) -> dict[str, Any]:
        of_proxy = {"linear": None, "knn": None} if row.proxy is None else asdict(row.proxy)
        facts = asdict(row) | of_proxy | {"non_commercial": row.non_commercial}
        latency = facts.pop("latency")
        del facts["proxy"]
        return facts | {
            "img_size": None if row.img_size is None else list(row.img_size),
            "latency_ms": None if latency is None else 1000 * latency,
            "within_one_standard_error": row in self.tied,
            "on_front": row in self.front,
        }


def ranked(rows: Iterable[Row]) -> Ranking:
    """The ranking of rows of which one at least was judged."""
    rows = list(rows)
    judged = sorted((row for row in rows if row.proxy), key=lambda row: (-row.linear.mean, row.seconds))
    others = sorted((row for row in rows if not row.proxy), key=lambda row: (row.status, row.latency or 0, row.name))
    best = judged[0]
    least = best.linear.mean - best.linear.standard_error
    tied = sorted((row for row in judged if row.linear.mean >= least), key=lambda row: row.seconds)
    front = unbeaten(judged, cost=lambda row: row.seconds, worth=lambda row: row.linear.mean)
    return Ranking((*judged, *others), best, tuple(tied), tuple(front))


def excluded(rows: Sequence[Row]) -> str:
    """Why none was judged, a line each."""
    return "\n".join(f"  {row.name}: {row.reason}" for row in rows)
