"""Entries as TOML, and the merge of generated and other ones: for the scripts that write `zoo/*.toml`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..registry import index

HEADER = (
    "# Released weights. Entries from timm's and torchvision's registries are generated:\n"
    "# `python -m hybridvit.weights.from_timm` and `python -m hybridvit.weights.from_torchvision`.\n"
)
# Which entries of an architecture come first: its default is one without a download, or else timm's.
ORDER = ("zoo", "pypi", "timm", "torchvision", "others")

Entries = Mapping[str, Mapping[str, Any]]


def toml_entry(name: str, entry: Mapping[str, Any]) -> str:
    """One entry as TOML, its tables inline."""
    lines = [f'["{name}"]']
    lines += [f"{key} = {_toml(value)}" for key, value in entry.items() if value != {}]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # whose escapes are TOML's
    return repr(value)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a family's file; none if it is not there."""
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def update(
    path: Path, generated: Entries, owned: Callable[[str, Mapping[str, Any]], bool], origin: str, names: Iterable[str]
) -> list[str]:
    """Puts generated entries in the place of those of a family's file that are `owned` by the generator.

    Entries are sorted by architecture and then by ORDER, in which `origin` is the generator's place. `names` are those
    of timm's entries. Says what was added, changed and removed.
    """
    old, timms = read(path), set(names)

    architectures = {architecture: number for number, architecture in enumerate(index())}

    def place(name: str) -> int:
        return architectures.get(name.partition(".")[0], len(architectures))

    def rank(item: tuple[str, Mapping[str, Any]]) -> int:
        name, entry = item
        kind = entry["source"].partition(":")[0]
        if name in generated:
            return ORDER.index(origin)
        if kind in ORDER:
            return ORDER.index(kind)
        if name in timms:
            return ORDER.index("timm")
        return ORDER.index("torchvision" if entry["layout"] == "torchvision" else "others")

    others = {name: entry for name, entry in old.items() if not owned(name, entry)}
    new = dict(sorted({**others, **generated}.items(), key=lambda item: (place(item[0]), rank(item))))
    text = HEADER + "".join(f"\n{toml_entry(name, entry)}" for name, entry in new.items())
    plain = tomllib.loads(text)
    if new:
        path.write_text(text, encoding="utf-8")
    else:
        path.unlink(missing_ok=True)
    return sorted(
        [
            *(f"added {name}" for name in plain.keys() - old.keys()),
            *(f"changed {name}" for name in plain.keys() & old.keys() if plain[name] != old[name]),
            *(f"removed {name}" for name in old.keys() - plain.keys()),
        ]
    )
