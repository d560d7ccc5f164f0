"""The sides of a comparison: a package's model, and how it is run."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ..encoder import Encoder
from ..optimization import optimize
from .cases import Case, dtype_of
from .peers import difference, fresh, packages_with, peer, perturb
from .records import BenchmarkError, Precision, Settings
from .search import is_out_of_memory

OURS = "hybridvit"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a side is made from a package's model. Everything else, all sides have in common.

    `precision` None is that of the settings.
    """

    name: str
    package: str
    channels_last: bool = False
    compiled: bool = False
    optimized: bool = False
    precision: Precision | None = None

    def settings(self, training: bool = False) -> dict[str, str]:
        """What this side does otherwise than the others, for the result."""
        said = {
            "layout": "channels_last" if self.channels_last else None,
            "precision": self.precision,
            "compiled": ("training" if training else "inference") if self.compiled else None,
            "optimized": "hybridvit.optimize" if self.optimized else None,
        }
        return {name: value for name, value in said.items() if value}


# Ours first. Of other packages: the defaults, and what their users do for speed.
WAYS = (
    Way(name=OURS, package=OURS),
    Way(name="hybridvit optimized", package=OURS, optimized=True),
    Way(name="hybridvit compiled", package=OURS, compiled=True),
    Way(name="hybridvit optimized compiled", package=OURS, optimized=True, compiled=True),
    Way(name="timm", package="timm"),
    Way(name="timm channels_last", package="timm", channels_last=True),
    Way(name="timm compiled", package="timm", compiled=True),
    Way(name="timm channels_last compiled", package="timm", channels_last=True, compiled=True),
    Way(name="timm fp32", package="timm", precision="fp32"),
    Way(name="transformers", package="transformers"),
    Way(name="transformers compiled", package="transformers", compiled=True),
    Way(name="torchvision", package="torchvision"),
    Way(name="torchvision channels_last", package="torchvision", channels_last=True),
    Way(name="torchvision compiled", package="torchvision", compiled=True),
)


def ways(case: Case, names: Collection[str] | None = None, training: bool = False) -> list[Way]:
    """The sides that this case has, ours first; with `names`, those of them and ours."""
    packages, settings = {OURS, *packages_with(case.model)}, case.settings
    left_out = {
        "compiled": settings.compile is None,
        "optimized": training,
        "precision": training or settings.precision in ("fp32", "tf32"),
    }
    return [
        way
        for way in WAYS
        if way.package in packages
        and not any(getattr(way, name) and left_out[name] for name in left_out)
        and (names is None or way.name in names or way.name == OURS)
    ]


@dataclass
class Contest:
    """Models with equal weights by package, what went wrong with the others, and the largest difference of outputs."""

    models: dict[str, nn.Module]
    failed: dict[str, str] = field(default_factory=dict)
    difference: float | None = None


def contest(case: Case, packages: Collection[str]) -> Contest:
    """Our model, and those of the packages with its weights, whose outputs are equal or which are refused."""
    ours = fresh(case, OURS)
    perturb(ours)
    found = Contest({OURS: ours})
    for package in packages:
        if package == OURS:
            continue
        try:
            theirs = peer(case, package, ours)
            differs = difference(ours, theirs, case)
        except Exception as error:  # of another package, which may raise anything
            found.failed[package] = reason(error)
        else:
            found.models[package] = theirs
            found.difference = max(differs, found.difference or 0.0)
    return found


def reason(error: BaseException) -> str:
    """Why a side failed, in one line."""
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"refused: {first if isinstance(error, BenchmarkError) else f'{type(error).__name__}: {first}'}"[:300]


class Prepared:
    """The models of a contest as their sides need them: moved, cast, laid out.

    Sides that need the same share it, unless each trains its own.
    """

    def __init__(self, models: Mapping[str, nn.Module], settings: Settings, shared: bool = True) -> None:
        self.models, self.settings, self.shared = models, settings, shared
        self._made: dict[tuple[object, ...], nn.Module] = {}

    def model(self, way: Way) -> nn.Module:
        """The model of a way, before compilation."""
        key = way.package, way.channels_last, way.optimized, way.precision, way.compiled and not self.shared
        if key not in self._made:
            self._made[key] = placed(copy.deepcopy(self.models[way.package]), way, self.settings)
        return self._made[key]


def placed(model: nn.Module, way: Way, settings: Settings) -> nn.Module:
    """The model on the device, in its precision and layout; an optimised one is folded before it is rounded."""
    if way.optimized:
        assert isinstance(model, Encoder)
        return optimize(model.to(settings.device), dtype=stored(way, settings))
    return model.to(settings.device, stored(way, settings)).to(memory_format=layout(way))


def stored(way: Way, settings: Settings) -> torch.dtype:
    """The type of weights and images: under autocast, float32."""
    precision = way.precision or settings.precision
    return torch.float32 if precision.startswith("amp-") else dtype_of(precision)


def layout(way: Way) -> torch.memory_format:
    return torch.channels_last if way.channels_last else torch.preserve_format
