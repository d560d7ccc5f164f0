"""A model on one page: what its stages are made of, in words, and what each of them costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ..components.blocks import Block, Branch
from ..components.convs import Conv
from ..components.functions import Identity
from ..components.transitions import Activate, Add, Normalize, Steps, Subtract
from ..encoder import Model
from ..spec import Grid, Position, Spec, Transition
from .costs import Cost, layer_costs


@dataclass(frozen=True)
class StageOutline:
    """A stage, at the image size that the model is built for. `blocks` is empty for an entrance alone.

    `width`, `stride` and `grid` are the channels, the pixels from one position to the next and the (height, width) of
    the map that leaves it, `prefix` its tokens in front of the map.
    """

    enter: str
    blocks: str
    width: int
    stride: int
    grid: tuple[int, int]
    prefix: int
    params: int
    flops: int


def outline(model: Model) -> tuple[StageOutline, ...]:
    """The stages of a model."""
    costs = layer_costs(model)
    dim, stride, grid = model.in_chans, 1, Grid(*model.img_size)
    rows: list[StageOutline] = []
    for index, stage in enumerate(model.stages):
        grid, stride = stage.out_grid(grid), stage.enter.out_stride(stride)
        dim = stage.enter.out_dim(dim)
        own = [cost for layer, cost in costs.items() if f"{layer}.".startswith(f"stages.{index}.")]
        position = "" if stage.position == type(stage).position else describe(stage.position)
        tokens = f"{stage.prefix} prefix token{'s' * (stage.prefix > 1)}" if stage.prefix else ""
        entrance = " + ".join(filter(None, (describe(stage.enter) or "as it is", tokens, position)))
        total = sum(own, start=Cost(0, 0))
        rows.append(StageOutline(entrance, _runs(stage.blocks), dim, stride, grid.size, grid.prefix, *total))
    return tuple(rows)


def describe(part: Spec) -> str:
    """A part in words: its kind, the numbers that tell it from its like, and the parts inside it."""
    match part:
        case Identity():
            return ""
        case Steps(steps=steps):
            return _listed(steps)
        case Add(shortcut=shortcut, body=body):
            both = [describe(shortcut) or "x", describe(body)]
            both = [f"({text})" if ", " in text else text for text in both]
            return f"[{' - '.join(reversed(both)) if isinstance(part, Subtract) else ' + '.join(both)}]"
        case Block(branches=branches):
            return "; ".join(describe(branch) for branch in branches)
        case Branch(mixer=mixer):
            return describe(mixer)
        case Activate(act=act):
            return act
        case Normalize(norm=norm):
            return norm.kind
    values: dict[str, Any] = {field.name: getattr(part, field.name) for field in fields(part)}  # pyright: ignore[reportArgumentType]
    words = [part.kind.rpartition(".")[2]]
    words += [word for name in _TOLD if name in values and (word := _word(name, values[name]))]
    if isinstance(part, Conv) and part.groups > 1:
        words.append("depthwise" if part.groups == part.dim else f"in {part.groups} groups")
    inside = _listed(part for value in values.values() for part in _parts(value))
    return " ".join(words) + (f" ({inside})" if inside else "")


def _parts(value: Any) -> list[Spec]:
    """The specs among a field's values that say what is computed, not how it is normalised or biased."""
    values = value if isinstance(value, tuple) else (value,)
    return [part for part in values if isinstance(part, Transition | Block | Position)]


_TOLD = ("kernel", "patch", "window", "dim", "hidden", "heads", "layout", "shift", "stride")


def _word(name: str, value: Any) -> str:
    """What tells a part from its like, in the words of the tables; "" for what all of them have."""
    match name, value:
        case ("stride", 1) | ("layout", "block") | ("shift", (0, 0)):
            return ""
        case "stride", int():
            return f"/{value}"
        case "shift", _:
            return "shifted"
        case "kernel" | "patch" | "window", int():
            return f"{value}x{value}"
        case "kernel" | "patch" | "window", (int(height), int(width)):
            return f"{height}x{width}"
        case "heads", int():
            return f"{value} head{'s' * (value > 1)}"
        case "dim" | "hidden", int():
            return str(value)
        case "layout", str():
            return value
    return ""


def _listed(parts: Iterable[Spec]) -> str:
    """Parts in words, without the norms between them."""
    parts = list(parts)
    told = [part for part in parts if not isinstance(part, Normalize)] or parts
    return ", ".join(_counted([text for part in told if (text := describe(part))], "{count} x {text}"))


def _runs(blocks: tuple[Block, ...]) -> str:
    return ", then ".join(_counted([describe(block) for block in blocks], "{count} x ({text})"))


def _counted(texts: list[str], form: str) -> list[str]:
    """Runs of equal texts, or of equal pairs of texts, written once with their number."""
    runs: list[tuple[int, str]] = []
    while texts:
        lengths = {period: _repeats(texts, period) for period in (1, 2)}
        period = 1 if lengths[1] > 1 or lengths[2] < 2 else 2
        runs.append((lengths[period], "; then ".join(texts[:period])))
        texts = texts[period * lengths[period] :]
    return [form.format(count=count, text=text) if count > 1 or "(" in form else text for count, text in runs]


def _repeats(texts: list[str], period: int) -> int:
    """How often the first `period` texts follow each other."""
    count = 1
    while texts[count * period : (count + 1) * period] == texts[:period]:
        count += 1
    return count
