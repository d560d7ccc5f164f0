"""The models of these tests are too small to gain from threads, and on a busy machine threads wait for each other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hybridvit.transfer.data import Data, load_data
from tests.transfer.samples import write_idx


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="rows")
def easy_data(tmp_path: Path) -> Data:
    """Three classes of grey images that are told apart by a bright row."""
    return load_data(f"idx:{write_idx(tmp_path / 'idx', {'train': 120, 't10k': 30})}")
