"""What the fields of a weight entry may hold, and the small tables of the zoo that entries refer to.

`zoo/licences.json` has the licences, `zoo/reported.json` those whose figures are reported.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING, Any

from ..spec import nearest
from ..zoo_path import zoo_path
from .labels import LABEL_SETS

if TYPE_CHECKING:
    from .entries import WeightEntry

# Whose names a file may have; which of them a family reads, `weights.layouts` knows.
LAYOUTS = (
    "hybridvit",
    "timm",
    "transformers",
    "transformers-v5",
    "torchvision",
    "open_clip",
    "original",
    "efficientnet_pytorch",
    "florence2",
)
WEIGHT_FILES = (".safetensors", ".bin", ".pth", ".pt", ".pth.tar")
SOURCES = {
    "hf": r"[\w.-]+/[\w.-]+(@[\w./-]+)?",
    "url": r"https://[\w.-]+(/[\w.~%+-]+)+",
    "zoo": r"\w[\w./-]*",
    "pypi": r"\w+(/[\w.-]+)+",
}
PREPROCESS = {
    "input_size": (int, 2),
    "interpolation": (str, 0),
    "crop_pct": (float, 0),
    "crop_mode": (str, 0),
    "mean": (float, None),
    "std": (float, None),
}


@dataclass(frozen=True)
class Licence:
    """A licence: its full name, and whether it allows commercial use; None if the publisher states no licence."""

    title: str
    commercial: bool | None


@dataclass(frozen=True)
class Reporter:
    """Who reports figures: what was measured, where it is to be read, and in which version of what day."""

    what: str
    url: str
    version: str
    date: str


@functools.cache
def licences() -> Mapping[str, Licence]:
    """Every licence that an entry may have, by name."""
    return _table("licences.json", Licence, {"title": _text, "commercial": _truth})


@functools.cache
def reporters() -> Mapping[str, Reporter]:
    """Everyone whose figures an entry may report, by name."""
    return _table("reported.json", Reporter, {"what": _text, "url": _link, "version": _text, "date": _day})


def _table(file: str, row: type[Any], checks: Mapping[str, Callable[[Any], str | None]]) -> dict[str, Any]:
    """A table of the zoo as rows of a dataclass. Raises ValueError naming the file, the row and the field."""
    found: dict[str, Any] = {}
    for name, values in json.loads((zoo_path() / file).read_text(encoding="utf-8")).items():
        wanted = [field.name for field in fields(row)]
        if not isinstance(values, Mapping) or sorted(values) != sorted(wanted):
            raise ValueError(f"zoo/{file}: {name} must have just the fields {', '.join(wanted)}, got {values}")
        for key, value in values.items():
            problem = checks[key](value)
            if problem:
                raise ValueError(f"zoo/{file}: {name}: {key}: {problem}, got {value!r}")
        found[name] = row(**values)
    return found


def check_fields(data: Mapping[str, Any], place: str) -> None:
    """Raises ValueError, beginning with `place`, for the first field whose value is not one that it may have."""
    for name, value in data.items():
        problem = CHECKS[name](value)
        if problem:
            raise ValueError(f"{place}: {name}: {problem}, got {value!r}")


def check_together(entry: WeightEntry, place: str) -> None:
    """Raises ValueError for fields that do not fit each other."""
    kind = entry.source.partition(":")[0]
    labels = LABEL_SETS[entry.labels] if isinstance(entry.labels, str) else len(entry.labels)
    rules = (
        (labels in (0, entry.num_classes), "labels", f"{labels} names for {entry.num_classes} classes"),
        (
            entry.in_chans == entry.preprocess.channels,
            "preprocess",
            f"mean and std of {entry.preprocess.channels} channels for in_chans = {entry.in_chans}",
        ),
        (bool(entry.donor) <= bool(entry.covers), "donor", "needs covers: what of the donor's weights is taken"),
        (kind == "hf" or entry.file == "model.safetensors", "file", "only a repository on the Hub (hf:) has files"),
        (kind == "url" or not entry.sha256, "sha256", "only a file behind a url: has one"),
    )
    for fine, field, message in rules:
        if not fine:
            raise ValueError(f"{place}: {field}: {message}")


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be text"


def _truth(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else "must be true, false or null"


def _link(value: Any) -> str | None:
    return None if isinstance(value, str) and value.startswith("https://") else "must be an address, https://..."


def _day(value: Any) -> str | None:
    try:
        date.fromisoformat(value)
    except (TypeError, ValueError):
        return "must be a day, YYYY-MM-DD"
    return None


def _one_of(known: Callable[[], Collection[str]]) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, str) and value in known():
            return None
        close = nearest(value, known()) if isinstance(value, str) else ""
        return f"must be one of {', '.join(known())}.{close}"

    return check


def _count(low: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and value >= low else f"must be a whole number from {low} up"

    return check


def _source(value: Any) -> str | None:
    kind, _, place = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind in SOURCES and re.fullmatch(SOURCES[kind], place) and ".." not in place.split("/"):
        if kind != "url" or place.endswith(WEIGHT_FILES):
            return None
        return f"must end with one of {', '.join(WEIGHT_FILES)}"
    return "must be hf:ORG/NAME[@REVISION], url:https://..., zoo:FILE or pypi:MODULE/FILE"


def _file(value: Any) -> str | None:
    fine = isinstance(value, str) and value.endswith(WEIGHT_FILES) and re.fullmatch(r"[\w./-]+", value)
    return None if fine else f"must be the name of a file that ends with one of {', '.join(WEIGHT_FILES)}"


def _paper(value: Any) -> str | None:
    fine = isinstance(value, str) and re.fullmatch(r"(arXiv:\d{4}\.\d{4,5}(, (?!$)|$))*", value)
    return None if fine else "must be arXiv:NUMBER, several with a comma and a space between them"


def _digest(value: Any) -> str | None:
    fine = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{8,64}", value)
    return None if fine else "must be 8 to 64 hexadecimal digits in lower case"


def _names(value: Any) -> str | None:
    fine = isinstance(value, list) and value and all(isinstance(each, str) and each for each in value)
    return None if fine else "must be a list of names"


def _labels(value: Any) -> str | None:
    return _one_of(lambda: LABEL_SETS)(value) if isinstance(value, str) else _names(value)


def _preprocess(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "must be a table"
    for key, each in value.items():
        kind, length = PREPROCESS.get(key, (object, 0))
        many = length != 0
        if many != isinstance(each, list) or (length and len(each) != length):
            return f"{key} must be a {'list' if many else kind.__name__}" + (f" of {length}" if length else "")
        types = (int, float) if kind is float else kind
        if any(isinstance(number, bool) or not isinstance(number, types) for number in (each if many else [each])):
            return f"{key} must hold {kind.__name__}"
    return None  # unknown fields and values out of range are Preprocess's own to refuse


def _figures(source: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """Accuracies in percent and their source; `img_size` where it is not the entry's own."""

    def check(value: Any) -> str | None:
        if not isinstance(value, Mapping) or not {"top1", "source"} <= value.keys():
            return "must be a table with top1 and source"
        for key, each in value.items():
            if key in ("top1", "top5"):
                number = isinstance(each, int | float) and not isinstance(each, bool)
                if not number or not 0 < each <= 100:
                    return f"{key} must be a number of percent"
            elif key == "img_size":
                if _count(1)(each):
                    return f"{key} {_count(1)(each)}"
            elif key == "source":
                if source(each):
                    return f"{key} {source(each)}"
            else:
                return f"has no {key!r}; it has: top1, top5, img_size, source"
        return None

    return check


def _own_file(value: Any) -> str | None:
    fine = isinstance(value, str) and value.startswith("zoo:") and (zoo_path() / value[4:]).is_file()
    return None if fine else "must be zoo:FILE, the file of the zoo that tells how it was measured"


def _any_text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be text"


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "source": _source,
    "layout": _one_of(lambda: LAYOUTS),
    "file": _file,
    "sha256": _digest,
    "prefix": _text,
    "licence": _one_of(licences),
    "num_classes": _count(0),
    "in_chans": _count(1),
    "paper": _paper,
    "preprocess": _preprocess,
    "donor": _text,
    "covers": _names,
    "labels": _labels,
    "measured": _figures(_own_file),
    "reported": _figures(_one_of(reporters)),
    "note": _any_text,
}
