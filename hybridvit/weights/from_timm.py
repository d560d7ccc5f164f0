"""Writes `zoo/*.toml` and `zoo/labels/*.txt` from timm: every released checkpoint of an architecture in the zoo.

    python -m hybridvit.weights.from_timm

Entries of other origin live in the same files, in `[name]` tables whose source is not one of timm's repositories, and
are kept as they are. What changed is printed.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..families import family_names, load_family
from ..preprocess import Preprocess
from ..zoo_path import zoo_path
from .foreign import timm_preprocess

HEADER = "# Released weights. Entries from timm/ repositories are generated: `python -m hybridvit.weights.from_timm`.\n"

LABEL_SETS = ("imagenet-1k",)


def timm_entries(architectures: list[str]) -> dict[str, dict[str, Any]]:
    """The entries of timm's registry for these architectures, each with its default tag first."""
    from timm.models import get_arch_pretrained_cfgs, is_model

    found: dict[str, dict[str, Any]] = {}
    for architecture in filter(is_model, architectures):
        for name, cfg in get_arch_pretrained_cfgs(architecture).items():
            if cfg.hf_hub_id is None or not str(cfg.hf_hub_id).startswith("timm/"):
                continue
            repository = str(cfg.hf_hub_id)
            if repository.endswith("/"):
                repository += name
            found[name] = _entry(repository, cfg)
    return found


def released(architectures: list[str]) -> dict[str, list[str]]:
    """timm's released checkpoints, as `arch.tag`, of those of these architectures that have any."""
    from timm.models import get_arch_pretrained_cfgs, is_model

    found = {
        architecture: [name for name, cfg in get_arch_pretrained_cfgs(architecture).items() if cfg.has_weights]
        for architecture in filter(is_model, architectures)
    }
    return {architecture: tags for architecture, tags in found.items() if tags}


def _entry(repository: str, cfg: Any) -> dict[str, Any]:
    preprocess = timm_preprocess(cfg.to_dict())
    assert preprocess is not None
    entry: dict[str, Any] = {"source": f"hf:{repository}", "layout": "timm"}
    if cfg.hf_hub_filename:
        entry["file"] = cfg.hf_hub_filename
    entry["licence"] = cfg.license or "unknown"
    if cfg.num_classes != 1000:
        entry["num_classes"] = cfg.num_classes
    if labels_of(cfg):
        entry["labels"] = labels_of(cfg)
    if cfg.paper_ids:
        entry["paper"] = cfg.paper_ids if isinstance(cfg.paper_ids, str) else ", ".join(cfg.paper_ids)
    default = asdict(Preprocess())
    entry["preprocess"] = {key: value for key, value in asdict(preprocess).items() if value != default[key]}
    return entry


def labels_of(cfg: Any) -> str | None:
    """The set of classes of a checkpoint, if their names are in the zoo."""
    from timm.data.imagenet_info import infer_imagenet_subset

    subset = infer_imagenet_subset(cfg)
    return subset if subset in LABEL_SETS else None


def label_lines(subset: str) -> str:
    """The names of a set of classes, one a line, in the order of the logits."""
    from timm.data.imagenet_info import ImageNetInfo

    return "".join(f"{name}\n" for name in ImageNetInfo(subset).label_descriptions())


def toml_entry(name: str, entry: dict[str, Any]) -> str:
    """One entry as TOML, its preprocessing as an inline table."""
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
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def update(path: Path, generated: dict[str, dict[str, Any]]) -> list[str]:
    """Writes a family's entries, those of other origin first, and says what was added, changed and removed."""
    old = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    others = {name: entry for name, entry in old.items() if not entry["source"].startswith("hf:timm/")}
    new = others | generated
    if new:
        path.write_text(
            HEADER + "".join(f"\n{toml_entry(name, entry)}" for name, entry in new.items()), encoding="utf-8"
        )
    plain = tomllib.loads(path.read_text(encoding="utf-8")) if new else {}
    return [
        *(f"added {name}" for name in plain.keys() - old.keys()),
        *(f"changed {name}" for name in plain.keys() & old.keys() if plain[name] != old[name]),
        *(f"removed {name}" for name in old.keys() - plain.keys()),
    ]


def main() -> None:
    for family in map(load_family, family_names()):
        generated = timm_entries(list(family.sizes)) if "timm" in family.layouts else {}
        for line in sorted(update(zoo_path() / f"{family.name}.toml", generated)):
            print(line)
    for subset in LABEL_SETS:
        (zoo_path() / "labels" / f"{subset}.txt").write_text(label_lines(subset), encoding="utf-8")


if __name__ == "__main__":
    main()
