"""What a run asks of a GPU that is not there: which values it waits for, and what it sends there and back."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from hybridvit.encoder import Encoder
from hybridvit.meta import without_memory
from hybridvit.registry import model_spec
from hybridvit.transfer.data import Data, load_data
from hybridvit.transfer.device import torch_device
from hybridvit.transfer.predict import predict
from hybridvit.transfer.progress import Progress
from hybridvit.transfer.recipe import Recipe
from hybridvit.transfer.trainer import Trainer
from hybridvit.transfer.transforms import default_preprocess
from tests.devices import Watch, fake_gpu
from tests.transfer.samples import write_idx

RECIPE = Recipe(epochs=1, batch_size=4, warmup_epochs=0, augment="gentle", erasing=0.2, mixup=0.2, ema_decay=0.9)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return load_data(f"idx:{write_idx(tmp_path / 'idx', {'train': 120, 't10k': 30})}")


def empty_model() -> Encoder:
    with without_memory():
        return model_spec("cct_2_3x2_32").replace(img_size=(16, 16), in_chans=1, num_classes=3).build()


def empty_trainer(data: Data, out: Path, recipe: Recipe) -> Trainer:
    """A run on `meta`, which stands for a GPU: autograd asks a driver for the streams of `cuda`."""
    accelerator: Any = SimpleNamespace(device=torch.device("meta"), process_index=0, num_processes=1)
    accelerator.backward = lambda loss: loss.backward()
    made = Trainer(
        empty_model(),
        data,
        recipe,
        default_preprocess((16, 16), 1),
        out,
        accelerator,
        keep=lambda best, position: None,
        identity={},
        progress=Progress(shown=False),
        workers=0,
    )
    made.wrapped, made.last_saved = made.model, time.monotonic()
    return made


def found(watch: Watch, kind: str) -> Counter[str]:
    """How many faults of a kind each function has."""
    return Counter(
        fault.line.split(":")[0].split("/")[-1] + fault.line.split()[-1] for fault in watch.faults if fault.kind == kind
    )


@contextlib.contextmanager
def watched(answer: float = 1.0) -> Iterator[Watch]:
    """A watch over `meta`, where the optimiser is told that its fused kernels are."""
    fused = "torch.optim.optimizer._get_fused_kernels_supported_devices"
    with mock.patch(fused, return_value=["meta"]), Watch("meta", answer) as watch:
        yield watch


def test_an_epoch_waits_for_the_gpu_only_to_look_at_the_loss(data: Data, tmp_path: Path):
    """Every 20 steps and at its end. Indices, labels and numbers for the augmentation go there with every batch."""
    with watched() as watch:
        run = empty_trainer(data, tmp_path, RECIPE)
        watch.faults.clear()
        run._train_epoch()
    steps = run.batches.steps
    assert 20 < steps <= 40
    assert found(watch, "read") == {"trainer.py(_require_finite)": 3, "trainer.py(_train_epoch)": 2}
    copied = found(watch, "copied")
    # The count of the average is on the CPU, and torch sends it along.
    assert copied.pop("trainer.py(_train_epoch)") == steps - 1
    assert copied == {
        "pixel_sources.py(__call__)": steps,
        "loader.py(epoch)": steps,
        "arithmetic.py(forward)": 2 * steps,
    }


def test_the_probe_waits_for_the_gpu_once_beside_what_its_optimizer_asks(data: Data, tmp_path: Path):
    recipe = Recipe(epochs=1, batch_size=4, probe_epochs=3)
    with (
        watched() as watch,
        mock.patch("hybridvit.transfer.trainer.evaluation_of", return_value=SimpleNamespace(figure=1.0)),
    ):
        empty_trainer(data, tmp_path, recipe)._probe()
    reads = found(watch, "read")
    del reads["probe.py(_fit)"]  # where L-BFGS looks at each loss, to search along its line
    assert reads == {"probe.py(fit_head)": 1}


def test_predicting_sends_images_there_and_probabilities_back():
    model = empty_model()
    with (
        fake_gpu(model),
        mock.patch.object(Encoder, "to", return_value=model),  # fake tensors are no good at moving to where they are
        mock.patch("hybridvit.transfer.predict._best", return_value=[]),
        Watch("cuda") as watch,
    ):
        results = predict(model, torch.empty(5, 1, 16, 16), batch_size=2)
    assert len(results) == 5
    assert found(watch, "copied") == {"predict.py(predict)": 2 * 3}
    assert not found(watch, "read")


def test_a_device_that_is_not_there_is_refused():
    assert torch_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="finds no device 'cuda:99' here"):
        torch_device("cuda:99")
    with pytest.raises(ValueError, match="no device 'gpu'"):
        torch_device("gpu")
