"""Every way of the study is exact, a study fits the schema, and the counters count."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from benchmarks import key_sets, shared_key_sets
from benchmarks.key_sets import WAYS, Shape, Way, reference
from benchmarks.pages import RESULTS
from benchmarks.shared_key_sets import SHAPES, SOFTWARE, cache_misses, made, moved, study, table
from hybridvit.benchmark import Settings, append_result, read_results

ODD, EVEN = (Shape(side=3 * window, heads=2, width=4, window=window) for window in (3, 4))
EAGER = [name for name in WAYS if "FlexAttention" not in name]


@pytest.mark.parametrize("shape", [ODD, EVEN], ids=["odd window", "even window"])
@pytest.mark.parametrize("name", EAGER)
def test_every_way_is_exact(name: str, shape: Shape) -> None:
    with torch.no_grad():
        actual = made(shape, name, "cpu")().double()
    assert torch.allclose(actual, reference(shape, WAYS[name].sets), atol=1e-6)


@pytest.mark.parametrize("shape", [ODD, EVEN], ids=["odd window", "even window"])
def test_flex_attention_has_the_same_windows(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not compiled here, which takes half a minute."""
    monkeypatch.setattr(key_sets, "compiled", lambda function: function)
    monkeypatch.setattr("torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True, raising=False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow uncompiled
        actual = made(shape, "sliding, FlexAttention", "cpu")().double()
    assert torch.allclose(actual, reference(shape, WAYS["sliding, unfold"].sets), atol=1e-6)


def test_a_window_that_slides_has_its_query_in_the_middle() -> None:
    """In the corner of a map of 9 a query has 2 x 2 of 3 x 3 keys; an even window reaches further up than down."""
    sets = list(WAYS["sliding, unfold"].sets(ODD))
    assert sets[0].tolist() == [0, 1, 9, 10]
    assert len(sets[4 * 9 + 4]) == 9
    even = list(WAYS["sliding, unfold"].sets(EVEN))
    assert even[0].tolist() == [0, 1, 12, 13]
    assert len(even[-1]) == 9


def test_all_ways_have_equally_many_keys_a_query_inside_the_map() -> None:
    middle = ODD.grid.tokens // 2
    assert {len(list(way.sets(ODD))[middle]) for way in WAYS.values()} == {9}
    assert {shape.side % shape.window for shape in SHAPES} == {0}


def test_a_study_is_written_read_and_shown(tmp_path: Path) -> None:
    settings = Settings(threads=1, rounds=2, round_seconds=1e-4, warmup=1)
    append_result(tmp_path / "a.jsonl", study(ODD, settings, EAGER))
    (result,) = read_results(tmp_path / "a.jsonl")
    assert [side.name for side in result.sides] == EAGER
    windows, shared, unfolded, _ = result.sides
    assert result.flops == 2 * 81 * 9 * 8 * 2
    assert windows.figures["latency"].ratio is None
    assert shared.figures["latency"].ratio is not None
    assert unfolded.figures["moved"].values > windows.figures["moved"].values
    assert all("peak memory" in side.figures and side.failed is None for side in result.sides)
    assert "| 9x9 | 2 of 4 | 3x3 | sliding, tiles | 25 |" in table([result])


def test_a_way_that_is_not_exact_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Way(make=WAYS["global"].make, sets=WAYS["windows"].sets)
    monkeypatch.setitem(WAYS, "wrong", wrong)  # pyright: ignore[reportArgumentType]
    settings = Settings(threads=1, rounds=1, round_seconds=1e-4, warmup=1)
    _, refused = study(ODD, settings, ["windows", "wrong"]).sides
    assert refused.figures == {}
    assert (refused.failed or "").startswith("refused: its outputs differ by ")


def test_bytes_moved_are_those_of_all_operations_but_views() -> None:
    """A sum of two tensors of 16 bytes reads and writes 48; its transpose nothing."""
    tensor = torch.ones(2, 2)
    assert moved(lambda: (tensor + tensor).t()) == 48


def test_counters_count_or_say_nothing() -> None:
    """Page faults stand for cache misses, which virtual machines seldom tell."""
    page_faults = 2
    counted = cache_misses(lambda: bytearray(64 * 2**20), SOFTWARE, page_faults)
    assert counted is None or counted > 1000
    assert cache_misses(lambda: None, SOFTWARE, 9999) is None


def test_the_committed_study_has_every_shape() -> None:
    results = read_results(RESULTS / "shared-keys.jsonl")
    told = [result.sides[0].settings for result in results]
    assert told == [shared_key_sets._told(shape) for shape in SHAPES]
    assert all([side.name for side in result.sides] == list(WAYS) for result in results)
