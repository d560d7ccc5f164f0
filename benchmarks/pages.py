"""Writes the tables of results into the documentation, between the marks that name their files.

    python -m benchmarks.pages

A table lies between the lines `<!-- results: benchmarks/results/NAME.jsonl -->` and `<!-- end of results -->`. In
place of `results` the first may name another table, one of `TABLES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import agreement, growth, shared_key_sets, speed, transfer_study
from hybridvit.benchmark import markdown, read_results

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TABLES: Mapping[str, Callable[[Path], str]] = {
    "results": lambda path: markdown(read_results(path)),
    "speed": lambda path: speed.summary(read_results(path)),
    "needs": lambda path: growth.needs(read_results(path)),
    "slopes": lambda path: growth.slopes(read_results(path)),
    "shared keys": lambda path: shared_key_sets.table(read_results(path)),
    "transfer": lambda path: transfer_study.page_table(transfer_study.read(path)),
    "agreement": lambda path: agreement.table(agreement.read(path)),
}
_TABLE = re.compile(rf"(<!-- ({'|'.join(TABLES)}): (\S+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def pages() -> list[Path]:
    """The pages of the documentation that have tables of results."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if _TABLE.search(path.read_text())]


def filled(text: str, root: Path = ROOT) -> str:
    """A page with its tables made anew from the files that it names."""

    def made(found: re.Match[str]) -> str:
        start, table, file, end = found.groups()
        return f"{start}\n{TABLES[table](root / file)}\n{end}"

    return _TABLE.sub(made, text)


def main() -> None:
    for path in pages():
        path.write_text(filled(path.read_text()))
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
