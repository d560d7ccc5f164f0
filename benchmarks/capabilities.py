"""Measures what our models and timm's can do, by the checks of `tests/capabilities.py`, and writes the page.

    python -m benchmarks.capabilities [FAMILY ...] [--only CAPABILITY ...] [--side SIDE] [--again]

writes `docs/capabilities.json`, family by family, and from it `docs/capabilities.md`. What is in the file already is
not measured again unless `--again` is given. `--render` writes the page alone.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import logging
import multiprocessing
import os
import re
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hybridvit.families import family_names

DOCS = Path(__file__).parent.parent / "docs"
OURS, TIMM = "hybridvit", "timm"
YES, OPTION, PART, NO, NOTHING = "yes", "with an option", "in part", "no", "not applicable"
MARKS = {YES: "✓", OPTION: "o", PART: "~", NO: "✗", NOTHING: "-"}
LIMIT = 600.0  # seconds for one check
CONFIGURATIONS = 2  # of ours, the smallest of each family
LONGEST_NOTE = 160

Cell = dict[str, str]
Results = dict[str, Any]


# Measuring: one process a family and side, so that one which hangs or dies takes nothing else with it.


def measured(side: str, names: Sequence[str], capabilities: Sequence[str], limit: float = LIMIT) -> dict[str, Cell]:
    """The cells of a side's models. What takes longer than `limit` seconds, or ends the process, is a "no"."""
    fork = multiprocessing.get_context("fork")  # what is imported here needs no second import there
    cells: dict[str, Cell] = {}
    while left := [name for name in capabilities if name not in cells]:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=_report, args=(sender, side, names, left))
        with warnings.catch_warnings():  # the threads of torch and onnxruntime wait for work, and hold nothing
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            process.start()
        sender.close()
        try:
            while receiver.poll(limit):
                name, cell = receiver.recv()
                cells[name] = cell
            process.kill()
            ended = f"not done after {limit:.0f} seconds"
        except EOFError:
            process.join()
            ended = f"the process ended with code {process.exitcode}"
        process.join()
        if missing := [name for name in left if name not in cells]:
            cells[missing[0]] = {"result": NO, "note": ended}
    return {name: cells[name] for name in capabilities}


def _report(sender: Connection, side: str, names: Sequence[str], capabilities: Sequence[str]) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        logging.disable()
        for result in check_here(side, names, capabilities):
            sender.send(result)


def check_here(side: str, names: Sequence[str], capabilities: Iterable[str]) -> Iterator[tuple[str, Cell]]:
    """Checks in this process: of ours each model must pass, or the smallest, which comes first, if it takes long."""
    from tests.capabilities import CAPABILITIES, Ours

    wanted = set(capabilities)
    for capability in CAPABILITIES:
        if capability.name in wanted:
            if side == OURS:
                asked = names[:1] if capability.slow else names
                yield capability.name, worst([(name, attempt(capability, Ours(name))) for name in asked])
            else:
                yield capability.name, of_timm(capability, names[0])


def attempt(capability: Any, subject: Any) -> Cell:
    from tests.capabilities import NotApplicable

    try:
        part = capability.check(subject)
    except NotApplicable as reason:
        return {"result": NOTHING, "note": str(reason)}
    except Exception as problem:
        return {"result": NO, "note": told(problem)}
    return {"result": PART, "note": part} if part else {"result": YES}


def worst(cells: Sequence[tuple[str, Cell]]) -> Cell:
    """What holds for all models: the worst that one of them gives, with its name where it fails."""
    order = (NO, PART, YES, NOTHING)
    name, cell = min(cells, key=lambda item: order.index(item[1]["result"]))
    return cell | {"note": f"{name}: {cell['note']}"} if cell["result"] == NO else cell


def of_timm(capability: Any, name: str) -> Cell:
    """timm's, at its defaults; if these do not do, with the first option that does."""
    from benchmarks.timm_models import Timm, options

    at_default = attempt(capability, Timm(name))
    if at_default["result"] in (YES, NOTHING):
        return at_default
    best = at_default
    for label, subject in options(name, capability.name).items():
        cell = attempt(capability, subject)
        if cell["result"] == YES:
            return {"result": OPTION, "note": label}
        if cell["result"] == PART and best["result"] == NO:
            best = {"result": PART, "note": f"{cell['note']}, with {label}"}
    return best


def told(problem: BaseException) -> str:
    """The first line that says what went wrong, without colours and places of files."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", str(problem)).splitlines() if line.strip()]
    if not lines:
        frames = traceback.extract_tb(problem.__traceback__)
        where = [frame for frame in frames if "/torch/" not in frame.filename][-1:]
        lines = [f"{type(problem).__name__} at `{where[0].line}`" if where else type(problem).__name__]
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    text = re.sub(r"/\S*/(?=\S)", "", text)
    return text if len(text) <= LONGEST_NOTE else f"{text[:LONGEST_NOTE]}..."


# Recording


def read() -> Results:
    path = DOCS / "capabilities.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"families": {}}


def write(results: Results) -> None:
    replaced(DOCS / "capabilities.json", json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    replaced(DOCS / "capabilities.md", page(results))


def replaced(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)


def about(before: Mapping[str, str]) -> dict[str, str]:
    """What the results depend on. `before` is what was said of those that are there already."""
    import importlib.metadata
    import platform

    packages = {name: importlib.metadata.version(name) for name in ("torch", "timm", "onnx", "onnxruntime")}
    packages |= {"onnxscript": importlib.metadata.version("onnxscript"), "python": platform.python_version()}
    today = datetime.date.today().isoformat()
    first = before.get("date", today).partition(" to ")[0]
    date = today if first == today else f"{first} to {today}"
    return packages | {"command": "python -m benchmarks.capabilities", "date": date}


def measure(families: Sequence[str], capabilities: Sequence[str], sides: Sequence[str], again: bool = False) -> None:
    """Measures what is not yet in the file, smallest models first, and writes after each family."""
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    import torch._dynamo

    from benchmarks.timm_models import smallest
    from hybridvit.registry import index, model_names
    from tests.representatives import representatives

    torch.set_num_threads(1)
    ours: dict[str, list[str]] = {}
    for name in sorted(representatives(), key=lambda name: index()[name].params):
        ours.setdefault(index()[name].family, []).append(name)
    for family in family_names():  # one that differs from another in its weights only is made of the same components
        ours.setdefault(family, [min(model_names(family=family), key=lambda name: index()[name].params)])
    for family in sorted(families, key=lambda family: index()[ours[family][0]].params):
        peer = smallest(family)
        models = {OURS: ours[family][:CONFIGURATIONS], TIMM: [peer] if peer else []}
        for side in sides:
            results = read()
            stored = results["families"].setdefault(family, {each: {"cells": {}} for each in models})
            for each, names in models.items():
                stored[each]["models"] = names
            cells = stored[side]["cells"]
            missing = [name for name in capabilities if again or name not in cells]
            if models[side] and missing:
                began = time.monotonic()
                cells |= measured(side, models[side], missing)
                print(f"{family}, {side}: {len(missing)} in {time.monotonic() - began:.0f} s", flush=True)
            results["about"] = about(results.get("about", {}))
            write(results)


# Rendering


def page(results: Mapping[str, Any]) -> str:
    from hybridvit.weights.pages import markdown_table
    from tests.capabilities import CAPABILITIES

    families, facts = results["families"], results["about"]
    rows: list[Sequence[object]] = []
    for number, capability in enumerate(CAPABILITIES, 1):
        rows.append((number, capability.title, *(summary(families, side, capability.name) for side in (OURS, TIMM))))
    table = markdown_table(("", "what a model can do", "hybridvit", f"timm {facts['timm']}"), rows, right=(0,))
    how = "".join(f"{number}. **{each.title}.** {each.how}\n" for number, each in enumerate(CAPABILITIES, 1))
    numbers = [str(number) for number in range(1, len(CAPABILITIES) + 1)]
    cells = [
        (f"[{family}](families/{family}.md)", *(_pair(families[family], each.name) for each in CAPABILITIES))
        for family in sorted(families)
    ]
    in_timm = [family for family in families if families[family][TIMM]["models"]]
    absent = ", ".join(f"`{family}`" for family in sorted(families.keys() - set(in_timm)))
    packages = ", ".join(f"{name} {facts[name]}" for name in ("python", "torch", "timm", "onnx", "onnxruntime"))
    parts = [
        "# What the models can do\n",
        "<!-- Written by `python -m benchmarks.capabilities`; edit what it is made from. -->\n",
        "One set of checks, asked of every family of the zoo and of the same families in timm. A family of ours counts "
        f"if the {CONFIGURATIONS} smallest of its configurations pass, cut down to a few blocks, and the smallest with "
        f"checks that take long ({_numbers(True)}); `tests/test_contract.py` asks every configuration, of some "
        "checks with `-m slow`. A "
        "family of timm's counts if its smallest model passes, whole and at its own size: at its defaults, or else "
        f"with an option that its documentation names. {len(families) - len(in_timm)} families are not in timm "
        f"({absent}). Families of which the architecture has nothing, such as attention maps of a CNN, are not "
        "counted.\n",
        table,
        f"Measured on the CPU on {facts['date']} with {packages}, by `{facts['command']}`. Weights are random, and "
        "drawn so that every parameter matters. Outputs are equal if they differ by at most 1e-3 of how far those of "
        "a batch lie apart; where a network amplifies rounding, by what pixels that differ by 2e-5 make of it.\n",
        f"## How each was checked\n\n{how}",
        "## Family by family\n\nOurs, then timm's: ✓ yes, o with an option, ~ in part, ✗ no, - nothing to check, "
        "? not measured. "
        "Numbers are those of the first table.\n",
        markdown_table(("family", *numbers), cells),
        f"## Notes\n\n{notes(families)}",
    ]
    return "\n".join(parts)


def summary(families: Mapping[str, Any], side: str, capability: str) -> str:
    """How many families can do it, of those that it is about."""
    found = [each[side]["cells"].get(capability, {}).get("result") for each in families.values()]
    count = sum(result not in (None, NOTHING) for result in found)
    if not count:
        return "not measured"
    more = [(f"{found.count(result)} {words}") for result, words in ((OPTION, OPTION), (PART, PART)) if result in found]
    return "; ".join([f"{found.count(YES)} of {count}", *more])


def _pair(family: Mapping[str, Any], capability: str) -> str:
    marks = []
    for side in (OURS, TIMM):
        cell = family[side]["cells"].get(capability)
        marks.append(MARKS[cell["result"]] if cell else "" if not family[side]["models"] else "?")
    return " ".join(filter(None, marks))


def _numbers(slow: bool) -> str:
    from tests.capabilities import CAPABILITIES

    return ", ".join(str(number) for number, each in enumerate(CAPABILITIES, 1) if each.slow == slow)


def notes(families: Mapping[str, Any]) -> str:
    """What failed and how, what was asked for, and what can be done in part, by family."""
    from tests.capabilities import CAPABILITIES

    numbers = {each.name: number for number, each in enumerate(CAPABILITIES, 1)}
    lines: list[str] = []
    for family, side in ((family, side) for family in sorted(families) for side in (OURS, TIMM)):
        cells = families[family][side]["cells"]
        found = [
            f"{numbers[name]} {MARKS[cells[name]['result']]} {code(cells[name]['note'])}"
            for name in numbers
            if name in cells and cells[name]["result"] in (OPTION, PART, NO)
        ]
        if found:
            model = f", timm's `{families[family][side]['models'][0]}`" if side == TIMM else ", ours"
            lines.append(f"- **{family}**{model}: {'; '.join(found)}\n")
    return "".join(lines) or "None.\n"


def code(text: str) -> str:
    """Words as they are in Markdown."""
    return f"`{text.replace('`', chr(39))}`"


def main() -> None:
    from tests.capabilities import CAPABILITIES

    parser = argparse.ArgumentParser(prog="python -m benchmarks.capabilities", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    known = [capability.name for capability in CAPABILITIES]
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="CAPABILITY")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--render", action="store_true", help="write the page only")
    parser.add_argument("--side", choices=(OURS, TIMM), help="one of the two only")
    given = parser.parse_args()
    if given.render:
        write(read())
    else:
        unknown = sorted(set(given.families) - set(family_names()))
        if unknown:
            parser.error(f"no family {', '.join(unknown)}; families: {', '.join(family_names())}")
        measure(given.families or family_names(), given.only, [given.side] if given.side else [OURS, TIMM], given.again)


if __name__ == "__main__":
    main()
