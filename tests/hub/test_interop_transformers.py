"""What transformers pushes, with its image processors: over a Hub, in every form that its files have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi

import hybridvit as hv
from hybridvit.hub import LoopbackHub
from hybridvit.weights.store import WeightsError
from tests.hub.conftest import run_python
from tests.hub.timm_client import photo
from tests.hub.transformers_client import CASES, LABELS, SIDE
from tests.parity import TOLERANCE, error, images
from tests.weights.examples import client, logits

Load = Callable[..., Any]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoopbackHub, Path]]:
    """With what transformers has pushed, and the folder with what it gives."""
    folder = tmp_path_factory.mktemp("transformers")
    with LoopbackHub(folder / "hub") as hub:
        environment = hub.environment() | {"HF_HOME": str(folder / "theirs")}
        run_python("-m", "tests.hub.transformers_client", str(folder), **environment)
        yield hub, folder


@pytest.fixture
def load(hub: tuple[LoopbackHub, Path]) -> Load:
    """A model of the Hub, by its repository's name."""
    server, folder = hub
    access = client(server, folder / "ours")
    return lambda name, **arguments: hv.create_model(f"hf-hub:me/{name}", **access, **arguments)


@pytest.fixture
def theirs(hub: tuple[LoopbackHub, Path]) -> Callable[[str], dict[str, torch.Tensor]]:
    """What a model of transformers gives."""
    return lambda name: torch.load(hub[1] / f"{name}.pt")


@pytest.mark.parametrize("kind", CASES)
def test_logits_pixels_and_labels(kind: str, load: Load, theirs: Callable[[str], dict[str, torch.Tensor]]) -> None:
    expected, ours = theirs(kind), load(kind)
    # MobileViT's weights and pixels are blue first there.
    batch = images(SIDE, SIDE).flip(1) if kind == "mobilevit" else images(SIDE, SIDE)
    assert error(logits(ours.double(), batch.double()), expected["logits"]) < TOLERANCE
    assert ours.labels == LABELS
    assert ours.origin["base_model"] == f"me/{kind}"
    pixels = hv.transforms(ours)(photo())
    pixels = pixels.flip(0) if kind == "mobilevit" else pixels
    assert pixels.shape == expected["pixels"].shape
    # In steps of 8 bits: it resizes tensors, where ours resizes Pillow's images, and here and there one rounds up.
    steps = (pixels - expected["pixels"]).abs() * torch.tensor(ours.preprocess.std)[:, None, None] * 255
    assert steps.max() < 1.01
    assert steps.mean() < 0.01


def test_half_precision(load: Load, theirs: Callable[[str], dict[str, torch.Tensor]]) -> None:
    ours = load("half")
    assert next(ours.parameters()).dtype == torch.float16
    assert error(logits(ours.double(), images(SIDE, SIDE).double()), theirs("half")["logits"]) < TOLERANCE


def test_several_files(hub: tuple[LoopbackHub, Path], load: Load) -> None:
    files = HfApi(endpoint=hub[0].endpoint).list_repo_files("me/sharded")
    assert len([name for name in files if name.endswith(".safetensors")]) > 2
    assert "model.safetensors" not in files
    assert torch.equal(logits(load("sharded"), images(SIDE, SIDE)), logits(load("vit"), images(SIDE, SIDE)))


def test_a_pickle_is_read_if_asked_for(load: Load) -> None:
    with pytest.raises(WeightsError, match="is a pickle, which can run code"):
        load("pickle")
    ours = load("pickle", allow_pickle=True)
    assert torch.equal(logits(ours, images(SIDE, SIDE)), logits(load("vit"), images(SIDE, SIDE)))
