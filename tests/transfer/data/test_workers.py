"""Processes that read give the same pixels, wherever the images are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridvit.preprocess import Preprocess
from hybridvit.transfer import pixel_sources
from hybridvit.transfer.data import load_data
from hybridvit.transfer.loader import TrainBatches
from hybridvit.transfer.recipe import Recipe
from tests.transfer.data.test_table import lines, table
from tests.transfer.data.test_wds import two_shards
from tests.transfer.samples import write_idx


def saved_dataset(root: Path) -> str:
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")
    from tests.transfer.data.test_hf import dataset

    datasets.disable_progress_bars()
    dataset(20).save_to_disk(root / "saved")
    return f"hf:{root / 'saved'}"


def bands(root: Path) -> str:
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(5):
            np.save(root / name / f"{i}.npy", np.random.default_rng(i + 10 * (name == "dog")).random((9, 8, 5)))
    return str(root)


SOURCES: dict[str, Callable[[Path], str]] = {
    "table": lambda root: str(table(root, lines(["cat", "dog"] * 10), images=20)),
    "wds": two_shards,
    "idx": lambda root: f"idx:{write_idx(root, {'train': 20, 't10k': 4})}",
    "hf": saved_dataset,
    "bands": bands,
}


@pytest.mark.parametrize("source", SOURCES)
def test_worker_processes_change_nothing(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_sources, "MEMORY_LIMIT", 0)
    images = load_data(SOURCES[source](tmp_path)).train
    channels = 5 if source == "bands" else 1
    preprocess = Preprocess(input_size=(8, 8), mean=(0.5,) * channels, std=(0.5,) * channels)

    def epoch(workers: int) -> list[torch.Tensor]:
        batches = TrainBatches(
            images, preprocess, Recipe(batch_size=4, augment="standard"), torch.device("cpu"), workers=workers
        )
        return [pixels for pixels, _ in batches.epoch(0)]

    for helped, alone in zip(epoch(2), epoch(0), strict=True):
        assert torch.equal(helped, alone)
