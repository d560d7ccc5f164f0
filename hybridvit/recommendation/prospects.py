"""What is known of candidates before their weights are fetched: enough to build them and to time them."""

from __future__ import annotations

from dataclasses import dataclass

from ..encoder import Encoder
from ..inspect.costs import params
from ..registry import index
from ..weights.load import create_model
from ..weights.outlook import outlook
from ..weights.resolve import is_place
from .latency import Entrant


@dataclass(frozen=True)
class Prospect:
    """A candidate that can be timed, and the licence of its weights."""

    name: str
    licence: str
    entrant: Entrant


def prospect(name: str, side: int | None) -> Prospect:
    """What a name stands for, its images of `side` x `side` pixels, or of the size of its preprocessing.

    Where only the weights tell what the model is, they are loaded. Raises as `create_model` does.
    """
    ahead = outlook(name)
    if ahead is None:
        model = create_model(name, pretrained=True, img_size=side)
        licence = str((model.origin or {}).get("licence") or "unknown")
        size = model.preprocess.input_size if model.preprocess else model.spec.img_size
        count = sum(parameter.numel() for parameter in model.parameters())
        return Prospect(name, licence, Entrant(lambda: model, count, size))
    spec = ahead.spec if side is None else ahead.spec.replace(img_size=(side, side))
    size = (side, side) if side is not None else ahead.preprocess.input_size if ahead.preprocess else spec.img_size
    count = params(spec) if is_place(name) else index()[name.partition(".")[0]].params

    def make() -> Encoder:
        return spec.build()

    return Prospect(name, ahead.licence, Entrant(make, count, size))
