"""Which to take, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hybridvit.recommendation import Row
from hybridvit.recommendation.ranking import ranked
from hybridvit.recommendation.result import finetune_command, milliseconds
from hybridvit.recommendation.table import heading, not_judged, terminal_table
from tests.recommendation.examples import example, row


def names(rows: Any) -> list[str]:
    return [each.name for each in rows]


def test_the_fastest_within_one_standard_error_of_the_best_is_recommended() -> None:
    found = ranked(
        [
            row("far", 0.70, 0.001),
            row("just outside", 0.879, 0.002),
            row("small", 0.885, 0.05, params=1),
            row("fast", 0.89, 0.01),
            row("best", 0.90, 0.1),
            Row(name="slow", status="too slow", reason="too slow: 900 ms", latency=0.9),
            Row(name="gone", status="failed", reason="no repository"),
        ]
    )
    assert names(found.rows) == ["best", "fast", "small", "just outside", "far", "gone", "slow"]
    assert found.best.name == "best"
    assert names(found.tied) == ["fast", "small", "best"]
    assert (found.fastest.name, found.smallest.name) == ("fast", "small")
    assert names(found.front) == ["far", "just outside", "fast", "best"]
    assert names(found.judged) == ["best", "fast", "small", "just outside", "far"]


def test_of_equal_figures_the_faster_is_the_best() -> None:
    found = ranked([row("a", 0.9, 0.2), row("b", 0.9, 0.1)])
    assert found.best.name == "b"
    assert names(found.front) == ["b"]


def test_words() -> None:
    words = example().words()
    assert words[0] == "Best: slow (accuracy 92.0% ± 2.0%, 9.0 M parameters, 200 ms)."
    assert words[1].startswith("1 more is within one standard error of it")
    assert words[2] == "The fastest of these: tied (accuracy 91.0% ± 2.0%, 5.0 M parameters, 20 ms)."
    assert len(words) == 3
    alone = example(row("only", 0.9, 0.004), limit=0.025).words()
    assert alone == ["Best within 25 ms: only (accuracy 90.0% ± 2.0%, 1.0 M parameters, 4 ms)."]
    poor = example(row("poor", 0.3, 0.004)).words()
    assert "always naming the commonest class reaches 40.0%" in poor[-1]
    small = example(row("best", 0.9, 0.01, params=9), row("small", 0.9, 0.02, params=3)).words()
    assert small[-1].startswith("The smallest of these: small")
    licensed = replace(row("free", 0.9, 0.01), licence="cc-by-nc-4.0")
    assert example(licensed).words()[-1] == "Its licence, cc-by-nc-4.0, forbids commercial use."


def test_the_table_has_figures_with_their_errors_and_the_rest_has_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    for width in (80, 160):
        Console(width=width).print(terminal_table(example()))
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        (tied,) = [line for line in lines if " tied " in line]
        assert tied.split() == ["2", "tied", "5.0M", "20", "ms", "91.0", "±", "2.0", "81.0", "±", "2.0", "tied"]
    assert heading(example()).endswith("percent ± one standard error; always the commonest class: 40.0")
    assert not_judged(example()) == ["late: too slow: 410 ms"]


def test_json_data() -> None:
    facts = json.loads(json.dumps(example(limit=0.3).to_dict()))
    assert (facts["best"], facts["recommended"], facts["smallest"]) == ("slow", "tied", "tied")
    assert facts["latency_limit_ms"] == 300
    by_name = {each["name"]: each for each in facts["models"]}
    assert by_name["tied"] == {
        "name": "tied",
        "status": "judged",
        "reason": None,
        "params": 5_000_000,
        "img_size": [224, 224],
        "licence": "unknown",
        "non_commercial": False,
        "latency_ms": 20.0,
        "linear": {"mean": 0.91, "standard_error": 0.02},
        "knn": {"mean": 0.81, "standard_error": 0.02},
        "within_one_standard_error": True,
        "on_front": True,
    }
    late = by_name["late"]
    assert (late["status"], late["reason"], late["latency_ms"]) == ("too slow", "too slow: 410 ms", 410)
    assert late["linear"] is late["knn"] is None
    assert late.keys() == by_name["tied"].keys()


def test_the_command_is_quoted_and_leaves_out_what_was_not_asked_for() -> None:
    command = finetune_command("local-dir:my model", "data", image_root=None, on_bad="skip", set="image_size=96")
    assert command == ("hybridvit finetune --model 'local-dir:my model' --data data --on-bad skip --set image_size=96")


@pytest.mark.parametrize(("seconds", "shown"), [(0.00072, "0.72 ms"), (0.0061, "6.1 ms"), (0.0413, "41 ms")])
def test_milliseconds(seconds: float, shown: str) -> None:
    assert milliseconds(seconds) == shown
    assert milliseconds(1.23) == "1,230 ms"
