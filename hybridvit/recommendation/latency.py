"""How long candidates take for one image on this machine, in turns. Weights that were drawn at random are as fast."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..benchmark.machine import machine
from ..benchmark.records import Settings
from ..benchmark.search import free_memory
from ..benchmark.timing import Clock, interleaved
from ..encoder import Encoder
from .failures import why

# A few calls tell what is far too slow; the rest take turns for as long as the slowest of them leaves time.
_LOOK = Settings(rounds=1, warmup=1, round_seconds=0.02)
_FAR = 2.0
_SECONDS = 2.0
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 9
_ROUND_SECONDS = 0.1
_BUSY = 1.5  # processes a core over the last minute, of which reading the images is one
_MOST_PARAMS = 250e6  # of models that wait for their turn in memory, 1 GB


@dataclass(frozen=True)
class Entrant:
    """A model to time: how it is made, with whatever weights; its parameters; (height, width) of its images."""

    make: Callable[[], Encoder]
    params: int
    img_size: tuple[int, int]


@dataclass
class Latencies:
    """Median seconds of one image by name, and why the others have none."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def busy_note(device: torch.device) -> str | None:
    """What to say of times that are about to be taken on a CPU that has more to do than it has cores."""
    here = machine(str(device))
    if device.type != "cpu" or here.load_average < _BUSY * here.cores:
        return None
    return (
        f"note: this machine is busy (load {here.load_average:.1f} on {here.cores} cores), so latencies are longer "
        "than they would be; measure again when it is quiet"
    )


def latencies(
    entrants: Mapping[str, Entrant], device: torch.device, clock: Clock, limit: float | None = None
) -> Latencies:
    """Times of one image each. What takes more than twice the `limit` in seconds is not measured closely."""
    found = Latencies()
    for names in _groups(entrants):
        runs = {name: TimedRun(entrants[name], device) for name in names}

        def failed(name: str, error: Exception) -> None:
            found.failed[name] = why(error)

        look = _medians(runs, clock, _LOOK, failed)
        near = {name: runs[name] for name, seconds in look.items() if limit is None or seconds <= _FAR * limit}
        rounds = int(_SECONDS / max((look[name] for name in near), default=_SECONDS))
        settings = Settings(
            rounds=min(max(rounds, _FEWEST_ROUNDS), _MOST_ROUNDS), warmup=1, round_seconds=_ROUND_SECONDS
        )
        found.seconds |= look | _medians(near, clock, settings, failed)
        runs.clear()
        near.clear()
        free_memory()
    for name in found.failed:
        found.seconds.pop(name, None)
    return found


def _medians(
    runs: Mapping[str, TimedRun], clock: Clock, settings: Settings, failed: Callable[[str, Exception], None]
) -> dict[str, float]:
    times = interleaved(runs, clock, settings, failed)
    return {name: statistics.median(of_run.rounds) for name, of_run in times.items()}


class TimedRun:
    """One image through a model, which is made at the first call, so that what fails then is its own failure."""

    def __init__(self, entrant: Entrant, device: torch.device) -> None:
        self.entrant, self.device = entrant, device

    @functools.cached_property
    def _made(self) -> tuple[Encoder, torch.Tensor]:
        model = self.entrant.make().to(self.device).eval()
        parameter = next(model.parameters())
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(1, model.spec.in_chans, *self.entrant.img_size, generator=generator)
        return model, images.to(self.device, parameter.dtype)

    def __call__(self) -> torch.Tensor:
        model, images = self._made
        with torch.inference_mode():
            return model(images)


def _groups(entrants: Mapping[str, Entrant]) -> Iterator[Sequence[str]]:
    """Names that are measured in turns, small models with small ones, as many as may be in memory together."""
    group: list[str] = []
    room = _MOST_PARAMS
    for name in sorted(entrants, key=lambda name: entrants[name].params):
        if group and entrants[name].params > room:
            yield group
            group, room = [], _MOST_PARAMS
        group.append(name)
        room -= entrants[name].params
    if group:
        yield group
