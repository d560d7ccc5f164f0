"""The learning-rate finder."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybridvit.transfer.data import Data
from hybridvit.transfer.rate_finder import find_rate, steepest
from hybridvit.transfer.recipe import load_recipe
from hybridvit.transfer.run import finetune
from tests.transfer.samples import FAST, trainer_of, write_idx


def test_it_finds_where_the_loss_falls_and_changes_nothing(rows: Data, tmp_path: Path) -> None:
    run = trainer_of(rows, tmp_path)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    curve = find_rate(run, steps=60)
    assert 1e-5 < curve.suggestion < 0.3
    assert curve.rates[0] == pytest.approx(1e-6)
    assert list(curve.rates) == sorted(curve.rates)
    assert min(curve.losses) < 0.9 * curve.losses[0]
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert not run.optimizer.state
    assert find_rate(run, steps=5) == find_rate(run, steps=5)


def test_it_stops_when_the_loss_diverges(rows: Data, tmp_path: Path) -> None:
    run = trainer_of(rows, tmp_path)
    real, calls = run.criterion, 0

    def exploding(*given: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(*given) * (1 if calls < 20 else math.inf if calls > 25 else 1e3)

    run.criterion = exploding  # pyright: ignore[reportAttributeAccessIssue]
    curve = find_rate(run, steps=60)
    assert len(curve.rates) == 19
    assert all(map(math.isfinite, curve.losses))


def test_the_steepest_descent() -> None:
    rates = np.geomspace(1e-6, 1, 25).tolist()
    losses = [1 / (1 + math.exp(2 * (math.log(rate) - math.log(1e-3)))) for rate in rates]
    assert steepest(rates, losses, 0.5) == pytest.approx(1e-3)
    assert steepest(rates[:2], losses[:2], 0.5) == 0.5
    assert steepest([], [], 0.5) == 0.5


def test_finetune_trains_with_what_was_found_and_resumes(tmp_path: Path) -> None:
    data = f"idx:{write_idx(tmp_path / 'idx', {'train': 60, 't10k': 15})}"
    recipe = FAST.replace(epochs=1, channels=1, image_size=16)
    options: dict[str, Any] = {"pretrained": False, "progress": False, "find_lr": True}
    result = finetune("cct_2_3x2_32", data, tmp_path / "run", recipe=recipe, **options)
    found = load_recipe(tmp_path / "run" / "recipe.toml").lr
    assert found != recipe.lr
    assert result.history[0].lr == found  # the last step of a short run is its peak
    (tmp_path / "run" / "metrics.json").unlink()
    assert finetune("cct_2_3x2_32", data, tmp_path / "run", resume=True, **options).accuracy == result.accuracy
    with pytest.raises(ValueError, match="lr and find_lr exclude each other"):
        finetune("cct_2_3x2_32", data, tmp_path / "other", overrides={"lr": 0.1}, **options)
