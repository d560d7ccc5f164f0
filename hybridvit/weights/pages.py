"""Writes the pages of the documentation that follow from code and data: the zoo, its families and their checkpoints.

    python -m hybridvit.weights.pages

writes `docs/zoo.md`, `docs/checkpoints.md` and `docs/families/*.md`; a test holds them equal to what this gives. The
docstring of a family's file tells what is special about it, `zoo/left_out.json` why a checkpoint is not here.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..families import load_family
from ..inspect.outline import StageOutline, outline
from ..registry import IndexEntry, group_of, groups, index, model_names
from ..zoo_path import zoo_path
from .entries import WeightEntry, entries, entries_of
from .from_timm import released
from .info import family_description, figures
from .layouts import layouts_of
from .schema import reporters

NOTE = "<!-- Written by `python -m hybridvit.weights.pages`; edit what it is made from. -->\n"
FLOPS = "GFLOPs are those of one image of the model's own size, a multiply-add counted as two."
NUMBER = re.compile(r"(?:arXiv[: ])?\b(\d{4}\.\d{5})\b")
NO_ENTRY = "The zoo has none.\n"


def docs_path() -> Path:
    """The directory of the documentation, in a checkout."""
    return zoo_path().parent / "docs"


def pages() -> dict[str, str]:
    """Every generated page by its path below `docs/`."""
    families = {f"families/{family}.md": family_page(family) for members in groups().values() for family in members}
    return {"zoo.md": zoo_page(), "checkpoints.md": checkpoints_page()} | families


def family_page(family: str) -> str:
    """What a family is, its models, what the smallest is made of, and its checkpoints."""
    models = {name: index()[name] for name in model_names(family=family)}
    weights = [entry for name in models for entry in entries_of(name)]
    sentence, *quirks = map(linked, family_description(family))
    smallest = min(_no_variants(models), key=lambda name: models[name].params)
    layouts = [f"`{name}`" for name in layouts_of(load_family(family))]
    facts = [
        f"Group: [{group_of(family)}](../zoo.md#{anchor(group_of(family))})",
        f"Paper: {linked(next(iter(models.values())).paper)}",
        f"Layouts of weights that it reads: {', '.join([*layouts, '`hybridvit`'])}",
        f"Source: `hybridvit/families/{family}.py`",
        *export_facts(family),
    ]
    spec = load_family(family).model(smallest)
    parts = [
        f"# {family}\n\n{NOTE}\n{sentence}\n",
        *(f"{quirk}\n" for quirk in quirks),
        "".join(f"- {fact}\n" for fact in facts),
        f"## Models\n\n{models_table(models)}\n{FLOPS}\n",
        f"## Inside `{smallest}`\n\n{stages_table(outline(spec))}",
        f"The head is {_article(spec.head.kind)} on {_article(spec.pool.kind)}. "
        "`A; B` are branches of a block, `[x + ...]` is a shortcut, `/2` a stride; norms between parts are left out.\n",
        f"## Checkpoints\n\n{weights_table(weights) if weights else NO_ENTRY}",
    ]
    return "\n".join(parts)


def zoo_page() -> str:
    """All families, group by group."""
    models, count = index(), sum(map(len, groups().values()))
    parts = [
        f"# The zoo\n\n{NOTE}\n{len(models)} models of {count} families, and {len(entries())} checkpoints, [of which a "
        "page](checkpoints.md) tells more; [what all of them can do](capabilities.md) is measured. `hybridvit list` "
        "shows them in the terminal, `hybridvit info NAME` one of them.\n"
    ]
    for group, families in groups().items():
        rows: list[Sequence[object]] = []
        for family in sorted(families):
            own = {name: models[name] for name in model_names(family=family)}
            sizes = sorted(entry.params for name, entry in own.items() if name in _real(own))
            count = sum(len(entries_of(name)) for name in own)
            link = f"[{family}](families/{family}.md)"
            span = " to ".join(dict.fromkeys(map(about, (sizes[0], sizes[-1])))) + " M"
            rows.append((link, linked(family_description(family)[0]), len(own), span, count or "-"))
        table = markdown_table(("family", "what it is", "models", "parameters", "checkpoints"), rows, right=(2, 3, 4))
        parts.append(f"## {group[0].upper()}{group[1:]}\n\n{table}")
    return "\n".join(parts)


def checkpoints_page() -> str:
    """How many of timm's released checkpoints fit, and which of related architectures do not."""
    fitting = Counter(index()[name.partition(".")[0]].family for name in fitting_tags())
    others = Counter(
        index()[entry.architecture].family for name, entry in entries().items() if name not in fitting_tags()
    )
    rows: list[Sequence[object]] = []
    for group, families in groups().items():
        counts = [(fitting[family], others[family]) for family in families]
        rows.append((f"**{group}**", *(f"**{sum(column)}**" for column in zip(*counts, strict=True))))
        for family in sorted(families):
            if fitting[family] or others[family]:
                rows.append((f"[{family}](families/{family}.md)", fitting[family] or "-", others[family] or "-"))
    rows.append(("**all**", f"**{fitting.total()}**", f"**{others.total()}**"))
    table = markdown_table(("family", "of timm", "of others"), rows, right=(1, 2))
    behind = [entry for entry in entries().values() if entry.source.startswith("url:")]
    barred = [entry for entry in entries().values() if entry.non_commercial]
    parts = [
        f"# Checkpoints\n\n{NOTE}\nOf the checkpoints that timm releases, {fitting.total()} fit an architecture of the "
        "zoo: every key and every shape of theirs is one of ours and back, and the number of parameters is the same. "
        "`tests/weights/test_released.py` checks each; `tests/families/` compares what the architectures compute. "
        "Those of others are in their layouts: torchvision's, transformers', the authors', our own.\n",
        table,
        f"{len(behind)} are files behind an address instead of in a repository on the Hub. They are downloaded once, "
        "into the cache of torch.hub, which timm and torchvision use too, and where a file's name has its hash, that "
        "is checked. They are pickles, so that they need `allow_pickle=True`.\n",
        f"{len(barred)} have a licence that forbids commercial use. The tables and `hybridvit info` mark them, and "
        "loading one warns.\n",
        reported_by(),
        f"## Left out\n\nArchitectures that timm keeps beside those of the zoo, and other hybrids and ViTs, with "
        f"{sum(map(len, left_out_tags().values()))} checkpoints:\n",
    ]
    for reason, architectures in left_out().items():
        names = ", ".join(f"`{name}`" for name in architectures)
        count = len(left_out_tags()[reason])
        parts.append(f"**{reason[0].upper()}{reason[1:]}** ({count} checkpoints): {names}.\n")
    return "\n".join(parts)


@functools.cache
def fitting_tags() -> tuple[str, ...]:
    """timm's released `arch.tag`s whose architecture is in the zoo, under its name and with rules for timm's layout."""
    own = [name for name, entry in index().items() if "timm" in load_family(entry.family).layouts]
    return tuple(tag for tags in released(own).values() for tag in tags)


def unexplained() -> list[str]:
    """Architectures with weights of the modules of timm that the zoo draws on, neither in the zoo nor left out."""
    from timm.models import list_models, list_modules

    told = {name for names in left_out().values() for name in names}
    covered = {name.partition(".")[0] for name in fitting_tags()}
    return [
        name
        for module in list_modules()
        if covered & set(list_models(module=module))
        for name in released(list_models(module=module))
        if name not in covered | told
    ]


def left_out() -> dict[str, list[str]]:
    """Architectures of timm with weights that are not in the zoo, by the reason, which `zoo/left_out.json` gives.

    It names them as `module/architecture`, by shell patterns; the first that matches counts.
    """
    return {reason: list(architectures) for reason, architectures in _left_out().items()}


def left_out_tags() -> dict[str, list[str]]:
    """Their released checkpoints, by the reason."""
    return {reason: [tag for tags in names.values() for tag in tags] for reason, names in _left_out().items()}


@functools.cache
def _left_out() -> dict[str, dict[str, list[str]]]:
    from timm.models import list_models, list_modules

    rows = json.loads((zoo_path() / "left_out.json").read_text(encoding="utf-8"))
    patterns = [(pattern, row["reason"]) for row in rows for pattern in row["models"]]
    found: dict[str, dict[str, list[str]]] = {row["reason"]: {} for row in rows}
    for module in list_modules():
        for name, tags in released([name for name in list_models(module=module) if name not in index()]).items():
            reasons = (reason for pattern, reason in patterns if fnmatch.fnmatchcase(f"{module}/{name}", pattern))
            for reason in list(reasons)[:1]:
                found[reason][name] = tags
    return {reason: names for reason, names in found.items() if names}


def models_table(models: dict[str, IndexEntry]) -> str:
    rows = [
        (f"`{name}`", millions(entry.params), billions(entry.flops), size(entry.img_size), len(entries_of(name)) or "-")
        for name, entry in models.items()
    ]
    return markdown_table(("model", "parameters", "GFLOPs", "image", "checkpoints"), rows, right=(1, 2, 3, 4))


def stages_table(stages: Iterable[StageOutline]) -> str:
    rows = [
        (
            f"{stage.enter}<br>{stage.blocks}" if stage.blocks else stage.enter,
            stage.width,
            stage.stride,
            size(stage.grid) + (f" + {stage.prefix}" if stage.prefix else ""),
            millions(stage.params),
            billions(stage.flops),
        )
        for stage in stages
    ]
    columns = ("entrance, then blocks", "width", "stride", "map", "parameters", "GFLOPs")
    return markdown_table(columns, rows, right=(1, 2, 3, 4, 5))


def weights_table(weights: Iterable[WeightEntry]) -> str:
    columns = ("checkpoint", "classes", "image", "top-1", "top-5", "reported by", "licence", "paper", "notes")
    rows = [
        (
            hub_link(entry),
            entry.num_classes or "-",
            size(entry.preprocess.input_size),
            *reported_cells(entry),
            entry.licence + (" (non-commercial)" if entry.non_commercial else ""),
            ", ".join(map(linked, filter(None, entry.paper.split(", ")))) or "-",
            "; ".join(filter(None, (entry.note, measured(entry)))) or "-",
        )
        for entry in weights
    ]
    told = [number for number in range(len(columns)) if any(row[number] != "-" for row in rows)]
    cells = [[row[i] for i in told] for row in rows]
    right = [place for place, number in enumerate(told) if number in (1, 2, 3, 4)]
    return markdown_table([columns[i] for i in told], cells, right=right) + told_by(weights)


def measured(entry: WeightEntry) -> str:
    """What was measured here, in words."""
    return f"{figures(entry.measured)} (measured here)" if entry.measured else ""


def reported_cells(entry: WeightEntry) -> tuple[str, str, str]:
    """Accuracies that others report, in percent, and who does; the size of the image where it is another."""
    if entry.reported is None:
        return "-", "-", "-"
    at = f" at {entry.reported['img_size']}" if "img_size" in entry.reported else ""
    top1, top5 = (f"{entry.reported[key]:.2f}" if key in entry.reported else "-" for key in ("top1", "top5"))
    return top1 + at, top5, entry.reported["source"]


def told_by(weights: Iterable[WeightEntry]) -> str:
    """Below a table, who reports its figures."""
    names = dict.fromkeys(entry.reported["source"] for entry in weights if entry.reported)
    lines = [f"`{name}`: {reporters()[name].what} ([{_version(name)}]({reporters()[name].url}))." for name in names]
    return f"\nAccuracies are in percent. {' '.join(lines)}\n" if lines else ""


def reported_by() -> str:
    """Who reports figures, and how many."""
    counts = Counter(entry.reported["source"] for entry in entries().values() if entry.reported)
    rows = [(f"[{name}]({each.url})", each.what, _version(name), counts[name]) for name, each in reporters().items()]
    table = markdown_table(("source", "what", "version", "checkpoints"), rows, right=(3,))
    return f"## Reported figures\n\nWhat others measured is told apart from what was measured here.\n\n{table}"


def _version(reporter: str) -> str:
    """The version of reported figures, short where it is a commit, and its day."""
    each = reporters()[reporter]
    return f"{each.version[:8] if re.fullmatch('[0-9a-f]{40}', each.version) else each.version}, {each.date}"


def export_facts(family: str) -> list[str]:
    """What `docs/capabilities.json` says of exported models, once it is there."""
    path = docs_path() / "capabilities.json"
    measured = json.loads(path.read_text(encoding="utf-8"))["families"].get(family) if path.exists() else None
    cell = measured["hybridvit"]["cells"].get("dynamic_size") if measured else None
    if cell is None:
        return []
    sizes = {"yes": "any", "no": "its own only"}.get(cell["result"], cell.get("note"))
    return [f"[Exported](../capabilities.md) with a size of run time: {sizes}"]


def hub_link(entry: WeightEntry) -> str:
    """The name of a checkpoint, with a link to its repository or file if it has one."""
    kind, _, place = entry.source.partition(":")
    if kind == "url":
        return f"[`{entry.name}`]({place})"
    repository, _, revision = place.partition("@")
    url = f"https://huggingface.co/{repository}" + (f"/tree/{revision}" if revision else "")
    return f"[`{entry.name}`]({url})" if kind == "hf" else f"`{entry.name}`"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    marks = ["---:" if number in right else "---" for number in range(len(columns))]
    lines = [columns, marks, *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def linked(text: str) -> str:
    """Text in which every number of a paper on arXiv is a link."""
    return NUMBER.sub(lambda found: f"[{found[0].replace(':', ' ')}](https://arxiv.org/abs/{found[1]})", text)


def anchor(title: str) -> str:
    """The place of a heading on its page, as the documentation's tables of contents spell it."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M"


def about(count: int) -> str:
    """A count in millions, to three digits."""
    return f"{count / 1e6:.3g}" if count < 999.5e6 else f"{count / 1e6:,.0f}"


def billions(count: int) -> str:
    return f"{count / 1e9:,.2f}"


def size(pixels: tuple[int, int]) -> str:
    return "{} x {}".format(*pixels)


def _article(kind: str) -> str:
    kind = kind.rpartition(".")[2]
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _real(names: Iterable[str]) -> list[str]:
    """Without timm's miniatures for its own tests, if there are others."""
    names = list(names)
    return [name for name in names if not name.startswith("test_")] or names


def _no_variants(names: Iterable[str]) -> list[str]:
    """Without those that are named after another with something added."""
    names = _real(names)
    return [name for name in names if not any(name.startswith(f"{other}_") for other in names)]


def write() -> list[str]:
    """Writes the pages, removes those of families that are gone, and gives the names of those that changed."""
    found, docs = pages(), docs_path()
    (docs / "families").mkdir(exist_ok=True)
    gone = [path for path in (docs / "families").glob("*.md") if f"families/{path.name}" not in found]
    for path in gone:
        path.unlink()
    changed = [
        name for name, text in found.items() if not (docs / name).exists() or (docs / name).read_text("utf-8") != text
    ]
    for name in changed:
        (docs / name).write_text(found[name], encoding="utf-8")
    return sorted([*changed, *(f"families/{path.name}" for path in gone)])


if __name__ == "__main__":
    print("\n".join(write()) or "all pages are as they were")
