"""Writes the tables of results into the documentation, between the marks that name their files.

    python -m benchmarks.pages

A table lies between the lines `<!-- results: benchmarks/results/NAME.jsonl -->` and `<!-- end of results -->`; that of
`agreement.json` is made by `benchmarks.agreement`.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import agreement
from hybridvit.benchmark import markdown, read_results

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_TABLE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def pages() -> list[Path]:
    """The pages of the documentation that have tables of results."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if _TABLE.search(path.read_text())]


def filled(text: str, root: Path = ROOT) -> str:
    """A page with its tables made anew from the files that it names."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{_table(root / found[2])}\n{found[3]}", text)


def _table(path: Path) -> str:
    return agreement.table(agreement.read(path)) if path == agreement.FILE else markdown(read_results(path))


def main() -> None:
    for path in pages():
        path.write_text(filled(path.read_text()))
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
