"""Cold starts as tables."""

from __future__ import annotations

from dataclasses import replace

from hybridvit.benchmark import markdown
from hybridvit.benchmark.cold_start import FILE
from hybridvit.benchmark.cold_tables import cold_start_table
from hybridvit.benchmark.records import Figure, Side
from hybridvit.benchmark.tables import terminal_table
from tests.benchmark.examples import example


def side(name: str, layout: str, seconds: float, mib: float, ours: Side | None = None) -> Side:
    held = ours.figures if ours else {}
    figures = {
        "create": Figure.of("s", [seconds] * 3, held.get("create")),
        "peak memory": Figure.of("MiB", [mib] * 3, held.get("peak memory")),
        FILE: Figure.of("MiB", [200.0] * 3),
    }
    return Side(name=name, settings={"layout": layout}, figures=figures)


OURS = side("hybridvit", "timm", 0.1, 220)
SIDES = (
    OURS,
    side("hybridvit own layout", "own", 0.05, 20, OURS),
    side("timm", "timm", 1.25, 410, OURS),
    Side(name="torchvision", settings={}, figures={}, failed="refused: no such file"),
)
RESULT = replace(example(), suite="cold_start", sides=SIDES)


def test_a_column_a_side_and_a_row_a_figure() -> None:
    assert cold_start_table(RESULT) == (
        ("vit_tiny_patch16_224", "hybridvit, timm's layout", "hybridvit own layout", "timm", "torchvision"),
        [
            ("create", "0.100 s", "0.050 s, 0.5x (0.5-0.5)", "1.250 s, 12.5x (12.5-12.5)", ""),
            ("peak memory", "220 MiB, 1.10 of the file", "20 MiB, 0.10 of the file", "410 MiB, 2.05 of the file", ""),
            ("failed", "", "", "", "refused: no such file"),
        ],
    )


def test_each_model_has_a_table_of_its_own() -> None:
    results = [RESULT, replace(RESULT, model="cvt_13")]
    shown = markdown(results)
    assert shown.startswith("cold_start: device cuda:0")
    assert "| vit_tiny_patch16_224 | hybridvit, timm's layout |" in shown
    assert "\n\n| cvt_13 | hybridvit, timm's layout |" in shown
    table = terminal_table(RESULT)
    assert table.row_count == 3
    assert table.columns[0].header == "vit_tiny_patch16_224"
