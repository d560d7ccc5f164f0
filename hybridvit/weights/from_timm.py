"""Writes `zoo/*.toml` and `zoo/labels/imagenet.tsv` from timm: every released checkpoint of an architecture in the zoo.

    python -m hybridvit.weights.from_timm
    python -m hybridvit.weights.from_timm --results results-imagenet.csv --commit SHA --date YYYY-MM-DD

The second takes the reported figures anew from the table of timm's repository, as it was at that commit of that day;
the first keeps those that are there. Entries of other origin live in the same files and are kept as they are, as are
figures of other sources, measured ones and notes in timm's entries; comments are not. What changed is printed.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..families import family_names, load_family
from ..preprocess import Preprocess
from ..zoo_path import zoo_path
from .foreign import timm_preprocess
from .labels import IMAGENET
from .writing import Entries, read, update

REPORTER = "timm-results"
RESEARCH_ONLY = {
    "licence": "apple-amlr",
    "note": "timm's copy still says apple-ascl; Apple put its repositories under apple-amlr in 2025",
}
# What timm's registry does not say: how the files are that are not timm's own. Its `checkpoint_filter_fn`s and
# `_convert_florence2` tell, and the first lines of its `gcvit.py` the licence of NVIDIA's weights. The licences of
# Florence-2 and of Apple's DFN and AIMv2 are those of the repositories that microsoft and apple have on the Hub.
MORE: dict[str, dict[str, Any]] = {
    "davit_*_fl.msft_florence2": {
        "layout": "florence2",
        "prefix": "vision_tower.",
        "covers": ["stages."],
        "licence": "mit",
        "note": "Florence-2 has no norm behind the last stage, so that it starts as one that was not trained",
    },
    "*.*_ijepa": {"prefix": "encoder.module."},
    "vitamin_*": {"layout": "open_clip", "prefix": "visual."},
    "gcvit_*.in1k": {"licence": "cc-by-nc-sa-4.0"},
    "aimv2_*.apple_pt*": RESEARCH_ONLY,
    "vit_*_clip_*.dfn[25]b*": RESEARCH_ONLY,
}


def timm_entries(architectures: list[str]) -> dict[str, dict[str, Any]]:
    """The entries of timm's registry for these architectures, each with its default tag first."""
    from timm.models import get_arch_pretrained_cfgs

    return {
        name: _entry(name, get_arch_pretrained_cfgs(architecture)[name])
        for architecture, names in released(architectures).items()
        for name in names
    }


def released(architectures: list[str]) -> dict[str, list[str]]:
    """timm's released checkpoints, as `arch.tag`, of those of these architectures that have any."""
    from timm.models import get_arch_pretrained_cfgs, is_model

    found = {
        architecture: [name for name, cfg in get_arch_pretrained_cfgs(architecture).items() if cfg.has_weights]
        for architecture in filter(is_model, architectures)
    }
    return {architecture: tags for architecture, tags in found.items() if tags}


def _entry(name: str, cfg: Any) -> dict[str, Any]:
    preprocess = timm_preprocess(cfg.to_dict())
    assert preprocess is not None
    entry: dict[str, Any] = {"source": _source(name, cfg), "layout": "timm"}
    if cfg.hf_hub_filename:
        entry["file"] = cfg.hf_hub_filename
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", entry["source"])
    if digits and entry["source"].startswith("url:"):
        entry["sha256"] = digits[1]
    entry["licence"] = cfg.license or "unknown"
    if cfg.num_classes != 1000:
        entry["num_classes"] = cfg.num_classes
    if labels_of(cfg):
        entry["labels"] = labels_of(cfg)
    if cfg.paper_ids:
        entry["paper"] = cfg.paper_ids if isinstance(cfg.paper_ids, str) else ", ".join(cfg.paper_ids)
    default = asdict(Preprocess())
    entry["preprocess"] = {key: value for key, value in asdict(preprocess).items() if value != default[key]}
    for pattern, more in MORE.items():
        if fnmatch.fnmatchcase(name, pattern):
            entry |= more
    return entry


def _source(name: str, cfg: Any) -> str:
    """A repository on the Hub, or where there is none the address of a file."""
    if not cfg.hf_hub_id:
        return f"url:{cfg.url}"
    repository = str(cfg.hf_hub_id)
    return f"hf:{repository}{name if repository.endswith('/') else ''}"


def labels_of(cfg: Any) -> str | None:
    """The set of classes of a checkpoint, which timm tells by their number."""
    from timm.data.imagenet_info import infer_imagenet_subset

    return infer_imagenet_subset(cfg)


def imagenet_lines() -> str:
    """The table of the classes of ImageNet's sets: synset, letters of the sets, names."""
    from timm.data.imagenet_info import ImageNetInfo

    infos = {letter: ImageNetInfo(name) for name, (letter, _) in IMAGENET.items()}
    members = {letter: set(info.label_names()) for letter, info in infos.items()}
    names = {
        synset: name
        for info in infos.values()
        for synset, name in zip(info.label_names(), info.label_descriptions(), strict=True)
    }
    return "".join(
        f"{synset}\t{''.join(letter for letter in infos if synset in members[letter])}\t{names[synset]}\n"
        for synset in sorted(names)
    )


def results(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of timm's table of results by `arch.tag`, which may have been run at several sizes."""
    found: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["model"], []).append(row)
    return found


def reported(rows: list[dict[str, str]], size: tuple[int, int]) -> dict[str, Any]:
    """The figures of a checkpoint at its own size; if there are none, at the smallest, which they then tell."""
    own = [row for row in rows if (int(row["img_size"]),) * 2 == size]
    row = own[0] if own else min(rows, key=lambda row: int(row["img_size"]))
    at = {} if own else {"img_size": int(row["img_size"])}
    return {"top1": float(row["top1"]), "top5": float(row["top5"])} | at | {"source": REPORTER}


def with_reported(
    entries: dict[str, dict[str, Any]], old: Entries, rows: Mapping[str, list[dict[str, str]]] | None
) -> dict[str, dict[str, Any]]:
    """The entries with figures from timm's table, or without a table with those that they had.

    What others reported, what was measured, and a note stay.
    """
    for name, entry in entries.items():
        before = old.get(name, {})
        figures = before.get("reported")
        if rows is not None and (not figures or figures["source"] == REPORTER):
            size = tuple(entry["preprocess"].get("input_size", Preprocess().input_size))
            figures = reported(rows[name], size) if name in rows else None
        kept = {"reported": figures, "measured": before.get("measured"), "note": before.get("note")}
        entry |= {key: value for key, value in kept.items() if value and key not in entry}
    return entries


def is_timms(name: str, entry: Mapping[str, Any], names: Mapping[str, Any]) -> bool:
    """Whether an entry is generated from timm's registry: `names` are the entries that it has now.

    Those that it had lie in a repository of timm's that is called as they are.
    """
    return name in names or entry["source"] == f"hf:timm/{name}"


def write_commit(commit: str, day: str) -> None:
    """Notes in `zoo/reported.json` which table the figures are from."""
    path = zoo_path() / "reported.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    url = f"https://github.com/huggingface/pytorch-image-models/blob/{commit}/results/results-imagenet.csv"
    data[REPORTER] |= {"url": url, "version": commit, "date": day}
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="results-imagenet.csv of timm's repository")
    parser.add_argument("--commit", help="the commit that it is from")
    parser.add_argument("--date", help="the day of that commit")
    given = parser.parse_args(arguments)
    if bool(given.results) != bool(given.commit and given.date):
        parser.error("--results, --commit and --date belong together")
    rows = results(given.results) if given.results else None
    if rows is not None:
        write_commit(given.commit, given.date)
    (zoo_path() / "labels" / "imagenet.tsv").write_text(imagenet_lines(), encoding="utf-8")
    for family in map(load_family, family_names()):
        path = zoo_path() / f"{family.name}.toml"
        generated = timm_entries(list(family.sizes)) if "timm" in family.layouts else {}
        with_reported(generated, read(path), rows)

        def owned(name: str, entry: Mapping[str, Any], names: Mapping[str, Any] = generated) -> bool:
            return is_timms(name, entry, names)

        for line in update(path, generated, owned, "timm", generated):
            print(line)


if __name__ == "__main__":
    main()
