"""Which models are judged."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hybridvit.recommendation.candidates import FARTHEST_BEHIND, LARGEST_SIDE, MOST_PARAMS, candidates, short_list
from hybridvit.registry import UnknownNameError, index
from hybridvit.weights.entries import WeightEntry, entries, find_entry


def reported(entry: WeightEntry) -> float:
    assert entry.reported is not None
    return entry.reported["top1"]


def operations(entry: WeightEntry) -> int:
    return index()[entry.architecture].flops


def rivals(max_params: float) -> list[WeightEntry]:
    """Checkpoints whose reported accuracy and operations are those of the same size."""
    return [
        entry
        for entry in entries().values()
        if entry.reported
        and entry.num_classes == 1000
        and not (entry.pickled or entry.covers or entry.donor)
        and entry.licence != "unknown"
        and entry.preprocess.input_size == index()[entry.architecture].img_size
        and "img_size" not in entry.reported
        and index()[entry.architecture].params <= 1e6 * max_params
    ]


@pytest.mark.parametrize(("max_params", "count"), [(None, 10), (12.0, 4), (6.0, 10)])
def test_the_short_list_is_on_the_pareto_front_of_what_is_reported(max_params: float | None, count: int) -> None:
    found = candidates([], count, max_params)
    listed = [find_entry(name) for name in found.names]
    assert 2 < len(listed) <= count
    most = max_params or MOST_PARAMS
    assert all(index()[entry.architecture].params <= 1e6 * most for entry in listed)
    for entry in listed:
        better = [
            other.name
            for other in rivals(most)
            if (reported(other) > reported(entry) and operations(other) <= operations(entry))
            or (reported(other) >= reported(entry) and operations(other) < operations(entry))
        ]
        assert not better, entry.name
    best = max(map(reported, rivals(most)))
    assert max(max(entry.preprocess.input_size) for entry in listed) <= LARGEST_SIDE
    assert min(map(reported, listed)) >= best - FARTHEST_BEHIND
    assert [*map(operations, listed)] == sorted(map(operations, listed))
    assert f"{len(listed)} checkpoints of up to {most:g} million parameters" in found.how


def test_the_short_list_is_spread_over_the_range_of_operations() -> None:
    all_of_them, few = (short_list(entries().values(), count) for count in (1_000, 4))
    assert len(all_of_them) > 8
    assert few[0] == all_of_them[0]
    assert few[-1] == all_of_them[-1]
    steps = [operations(after) / operations(before) for before, after in itertools.pairwise(few)]
    assert max(steps) < 10 * min(steps)
    assert short_list(entries().values(), 1) == all_of_them[-1:]


def test_a_limit_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"at most 0\.001 million parameters; raise it"):
        candidates([], 10, 0.001)


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    asked = ["levit_128s", "hf-hub:me/model@main", f"local-dir:{tmp_path}", str(tmp_path), "levit_128s.fb_dist_in1k"]
    found = candidates(asked, 1, None)
    assert found.names == ("levit_128s.fb_dist_in1k", "hf-hub:me/model@main", f"local-dir:{tmp_path}")
    assert found.how == "3 models as named"


@pytest.mark.parametrize("name", ["levit_129s", "levit_128s.fb"])
def test_an_unknown_name_is_an_error_that_offers_the_nearest(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"levit_128s|fb_dist_in1k"):
        candidates([name], 10, None)


def test_a_pattern_stands_for_all_of_a_few_and_for_the_front_of_many() -> None:
    few = candidates(["levit_128*"], 10, None)
    assert "levit_128s.fb_dist_in1k" in few.names
    assert len(few.names) == len([name for name in entries() if name.startswith("levit_128")])
    many = candidates(["*vit*"], 5, 20)
    assert len(many.names) == 5
    assert all("vit" in name and index()[name.partition(".")[0]].params <= 20e6 for name in many.names)
    assert "5 of " in many.how
    assert "for *vit*" in many.how
    with pytest.raises(ValueError, match=r"no released weights match 'nothing\*'"):
        candidates(["nothing*"], 10, None)
    with pytest.raises(ValueError, match=r"match 'levit\*' none has a reported accuracy and at most 1 million"):
        candidates(["levit*"], 10, 1)
