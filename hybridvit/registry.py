"""Names: which models exist, their families, and the indices that list them and their weights without torch."""

from __future__ import annotations

import fnmatch
import functools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .limits import MOST_PARTS, shown
from .spec import Spec, SpecError, count_parts, nearest
from .zoo_path import zoo_path

if TYPE_CHECKING:
    from .encoder import Model
    from .families import Family


class UnknownNameError(ValueError):
    """No model, tag or family of that name; the message offers the nearest."""


@dataclass(frozen=True)
class IndexEntry:
    """What the index knows of a model: how many parameters it has, and what an image of (height, width) `img_size`
    costs in floating point operations, a multiply-add counted as two; both with a classifier of `num_classes`.
    """

    family: str
    paper: str
    params: int
    flops: int
    img_size: tuple[int, int]
    num_classes: int


@functools.cache
def index() -> Mapping[str, IndexEntry]:
    """Every model by name, from the data file that ships with the package."""
    data = json.loads((zoo_path() / "index.json").read_text())
    return {name: IndexEntry(**entry | {"img_size": tuple(entry["img_size"])}) for name, entry in data.items()}


@functools.cache
def tags() -> Mapping[str, tuple[str, ...]]:
    """The tags of the released weights of each model that has any, its default first: `zoo/*.toml` tells the rest."""
    data = json.loads((zoo_path() / "tags.json").read_text())
    return {name: tuple(of_model) for name, of_model in data.items()}


@functools.cache
def groups() -> Mapping[str, tuple[str, ...]]:
    """The kinds of models there are, from pure ViTs to CNNs, and the families of each."""
    data = json.loads((zoo_path() / "groups.json").read_text())
    return {group: tuple(families) for group, families in data.items()}


def group_of(family: str) -> str:
    """The group that a family is in."""
    return next(group for group, families in groups().items() if family in families)


def model_names(pattern: str = "*", family: str | None = None) -> list[str]:
    """Names that match a shell pattern, sorted by family and then by the order of its size table."""
    families = {entry.family for entry in index().values()}
    if family is not None and family not in families:
        known = ", ".join(sorted(families))
        raise UnknownNameError(f"no family {family!r}.{nearest(family, families)} Families: {known}")
    return [
        name for name, entry in index().items() if fnmatch.fnmatchcase(name, pattern) and family in (None, entry.family)
    ]


def family_of(name: str) -> Family:
    """The family of a model. Raises UnknownNameError offering the nearest names."""
    from .families import load_family

    if name not in index():
        raise UnknownNameError(f"no model {name!r}.{nearest(name, index())} `hybridvit list` shows all of them.")
    return load_family(index()[name].family)


def model_spec(name: str) -> Model:
    """The spec of a model of the zoo."""
    return family_of(name).model(name)


def spec_from_dict(data: Mapping[str, Any]) -> Model:
    """The model spec that `to_dict` wrote, with the family files that its kinds come from imported."""
    from . import components  # noqa: F401  (makes the shared kinds known)
    from .encoder import Model
    from .families import family_names, load_family

    parts = count_parts(data)
    if parts > MOST_PARTS:
        raise SpecError(f"spec: expected at most {MOST_PARTS} parts, found {shown(parts)}")
    for family in _kind_families(data) & set(family_names()):
        load_family(family)
    spec = Spec.from_dict(data)
    if not isinstance(spec, Model):
        raise SpecError(f"expected a Model, found a {spec.kind}")
    return spec


def _kind_families(data: Any) -> set[str]:
    if isinstance(data, Mapping):
        own = {str(data["kind"]).partition(".")[0]} if "kind" in data else set()
        return own.union(*(_kind_families(value) for value in data.values()))
    if isinstance(data, list):
        return set().union(*map(_kind_families, data))
    return set()


def build_index() -> dict[str, Any]:
    """The contents of the index, recomputed from the families."""
    from .families import family_names, load_family

    entries: dict[str, Any] = {}
    for family in map(load_family, family_names()):
        for name in family.sizes:
            assert name not in entries, f"{name} is registered twice"
            entries[name] = build_entry(family, name)
    return entries


def build_entry(family: Family, name: str) -> dict[str, Any]:
    """What the index has of a model, recomputed."""
    from .inspect.costs import cost

    spec = family.model(name)
    return asdict(IndexEntry(family.name, family.paper, *cost(spec), spec.img_size, spec.num_classes))


def build_tags() -> dict[str, list[str]]:
    """The contents of the list of tags, from the weight entries in `zoo/*.toml`."""
    found: dict[str, list[str]] = {}
    for path in sorted(zoo_path().glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8")):
            name, _, tag = entry.partition(".")
            found.setdefault(name, []).append(tag)
    return found


def write_index() -> None:
    """Writes the index and the list of tags anew; tests hold them equal to the registry and to the weight entries."""
    for name, data in (("index.json", build_index()), ("tags.json", build_tags())):
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in data.items()]
        (zoo_path() / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")
    index.cache_clear()
    tags.cache_clear()


if __name__ == "__main__":
    write_index()
